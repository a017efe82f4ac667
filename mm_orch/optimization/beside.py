"""The start of a better engine beside the one that serves, or that is started: one at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from mm_orch.workers.worker import Worker


class StartBeside:
    """Owner of the worker that comes of it, until that is taken.

    Args:
        tasks: run the start, and end it with the supervisor.

    Attributes:
        engine: the one that is being started; None while none is.
    """

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.engine: str | None = None
        self._tasks = tasks
        self._task: asyncio.Task[Worker | None] | None = None

    def begin(self, engine: str, starting: Coroutine[Any, Any, Worker | None]) -> None:
        """Begin to start an engine; the last start is over and was taken."""
        self.engine = engine
        self._task = self._tasks.create_task(starting, name=f"start {engine} beside")

    def take(self) -> Worker | None:
        """Return the worker that has come of it; None while it goes on, and where it failed."""
        if self._task is None or not self._task.done():
            return None
        worker = self._task.result()
        self.engine = self._task = None
        return worker

    async def wait(self, *others: asyncio.Task[Any], timeout_s: float | None = None) -> None:
        """Wait until the start is over, one of the other tasks is, or the time is."""
        waited: set[asyncio.Task[Any]] = {*others, *([self._task] if self._task else [])}
        if waited:
            await asyncio.wait(waited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(timeout_s or 0)

    async def close(self) -> None:
        """Stop the worker that nobody took; the start itself has ended with its tasks."""
        if self._task is not None and not self._task.cancelled():
            worker = self._task.result()
            if worker is not None:
                await worker.stop()

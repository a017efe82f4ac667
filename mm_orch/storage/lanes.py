"""Threads that calls of a database wait for, in bounded queues."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from mm_orch.core.errors import QueueFullError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

MAX_WAITING = 256
"""Of one lane; more are refused."""
RETRY_AFTER_S = 1.0
"""What takes milliseconds may be tried again so soon."""


class Lane:
    """Threads for calls of one kind.

    Args:
        name: of the kind.
        num_threads: of the lane; each works on one call at a time.
        content: what is in the database, in words.
        max_waiting: calls that may wait or run; more are refused.
    """

    def __init__(self, name: str, num_threads: int, content: str, max_waiting: int) -> None:
        self._executor = ThreadPoolExecutor(num_threads, thread_name_prefix=f"storage {name}")
        self._content = content
        self._max_waiting = max_waiting
        self._num_waiting = 0

    async def run(self, call: Callable[[], T]) -> T:
        """Run a call in one of the threads.

        Raises:
            QueueFullError: too many wait.
        """
        if self._num_waiting >= self._max_waiting:
            raise QueueFullError(
                f"{self._num_waiting} calls wait for the {self._content}.",
                retry_after_s=RETRY_AFTER_S,
            )
        self._num_waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, call)
        finally:
            self._num_waiting -= 1

    def finish(self) -> None:
        """Wait for all calls; no more are taken."""
        self._executor.shutdown()

"""What runs now and may have to end before its time: answers, and waits for a model."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from mm_orch.core.errors import MuAIError
    from mm_orch.orchestration.remote import RemoteGeneration
    from mm_orch.orchestration.running import Deadline, RunningGeneration


@dataclass(eq=False, slots=True)
class _Wait:
    """Something awaited for a model, within a bound that can be brought forward."""

    model: str
    timeout: asyncio.Timeout
    broken_off: MuAIError | None = None


class UnderWay:
    """Everything that :meth:`break_off` ends, each with an error that its caller is told."""

    def __init__(self) -> None:
        self._answers: set[RunningGeneration | RemoteGeneration] = set()
        self._waits: set[_Wait] = set()

    @contextmanager
    def answering(self, generation: RunningGeneration | RemoteGeneration) -> Iterator[None]:
        """Count the generation in for as long as this is entered."""
        self._answers.add(generation)
        try:
            yield
        finally:
            self._answers.discard(generation)

    @asynccontextmanager
    async def waiting(self, model: str, deadline: Deadline) -> AsyncIterator[None]:
        """Bound what is awaited inside by the deadline.

        Raises:
            DeadlineError: the time was over.
            MuAIError: it was broken off.
        """
        timeout = asyncio.timeout_at(deadline.at_s)
        wait = _Wait(model, timeout)
        self._waits.add(wait)
        try:
            async with timeout:
                yield
        except TimeoutError:
            raise (wait.broken_off or deadline.error()) from None
        finally:
            self._waits.discard(wait)
        if wait.broken_off is not None:
            # What it waited for came in the same moment.
            raise wait.broken_off

    def break_off(self, make_error: Callable[[], MuAIError], *, model: str | None = None) -> None:
        """End everything, or what is for one model."""
        for generation in tuple(self._answers):
            if model in {None, generation.model}:
                generation.break_off(make_error())
        for wait in tuple(self._waits):
            if model in {None, wait.model}:
                wait.broken_off = make_error()
                wait.timeout.reschedule(asyncio.get_running_loop().time())

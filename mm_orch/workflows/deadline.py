"""The moment at which a run's time is over, and what its caller is told then."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mm_orch.core.errors import DeadlineError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from mm_orch.core.clock import Clock
    from mm_orch.core.errors import MuAIError

PART_SHARE = 0.5
"""Of the time that is left, for what the answer can do without: so that there is some for it."""
ANSWER_SHARE = 0.9
"""The same, for an answer in whose place something else can be told."""
REMEDY = "Ask for fewer tokens, or raise timeout_s or workflows.deadline_s."


class RunDeadline:
    """Bounds everything that is done for one call of a workflow.

    Args:
        workflow: its name; told in errors, so that it may change once it is chosen.
        timeout_s: seconds from now.
        clock: of the moment.
    """

    def __init__(self, workflow: str, timeout_s: float, clock: Clock) -> None:
        self.timeout_s = timeout_s
        self.end_s = clock() + timeout_s
        self.workflow = workflow
        self._clock = clock

    @property
    def left_s(self) -> float:
        """Seconds that are left; 0 when it is over."""
        return max(0.0, self.end_s - self._clock())

    def error(self) -> DeadlineError:
        """Say that the time is over."""
        return DeadlineError(
            f"The workflow {self.workflow} was not complete after {self.timeout_s:g} s.",
            remedy=REMEDY,
        )

    def bound(
        self, make_error: Callable[[], DeadlineError] | None = None
    ) -> AbstractAsyncContextManager[None]:
        """Bound what is done in the context.

        Args:
            make_error: says what was not done in time; by default, the whole run.
        """
        return within(self.left_s, make_error or self.error)


def share_of(left_s: float | None, share: float) -> float | None:
    """Return so much of the seconds that are left; None for any number."""
    return None if left_s is None else share * left_s


@asynccontextmanager
async def within(seconds: float | None, make_error: Callable[[], MuAIError]) -> AsyncIterator[None]:
    """Bound what is done in the context; None is no bound.

    Raises:
        MuAIError: as it is made, when the time was over; at once where there is none left, so
            that nothing is begun that never waits.
    """
    if seconds is not None and seconds <= 0:
        raise make_error()
    try:
        async with asyncio.timeout(seconds) as scope:
            yield
    except TimeoutError:
        if not scope.expired():
            raise
        raise make_error() from None

"""One admitted request's place: waiting until its first step, then running."""

from __future__ import annotations

from contextvars import ContextVar

from mm_orch.core.priority import rank_s


class Ticket:
    """Who holds it, what it may go before, and where it stands.

    Args:
        model: whose engine is to answer.
        admitted_at_s: the clock when it was let in.
        caller: name of the key that it belongs to.
        priority: higher goes first.
    """

    def __init__(
        self, model: str, admitted_at_s: float, *, caller: str = "", priority: int = 0
    ) -> None:
        self.model = model
        self.admitted_at_s = admitted_at_s
        self.caller = caller
        self.priority = priority
        self.is_running = False

    @property
    def rank_s(self) -> float:
        """The least goes first among different priorities."""
        return rank_s(self.priority, self.admitted_at_s)


RUN: ContextVar[Ticket | None] = ContextVar("run", default=None)
"""The place of the workflow's run that this task works for; None outside of runs.

Whatever a run asks for belongs to it, through whichever layers it is asked.
"""

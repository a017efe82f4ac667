"""Lets requests through to the engines, no more at once than these can work on.

Engines queue in order of arrival, so whatever else is to count must be decided before: what waits
here goes by the order of :mod:`mm_orch.orchestration.line`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.orchestration.line import WaitingLine

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.optimization.manager import OptimizationManager
    from mm_orch.orchestration.ticket import Ticket


@dataclass(frozen=True, slots=True)
class Bound:
    """What a model's engine can work on.

    Attributes:
        num_sequences: at once.
        is_yielding: those of lower priority give way, so they take no place from a higher one.
    """

    num_sequences: int
    is_yielding: bool = False


@dataclass(slots=True)
class _Lane:
    """The requests of one model: those that wait, and the sequences of those let through."""

    line: WaitingLine = field(default_factory=WaitingLine)
    num_sequences_by_waiting: dict[Ticket, int] = field(default_factory=dict)
    future_by_ticket: dict[Ticket, asyncio.Future[None]] = field(default_factory=dict)
    num_sequences_by_inside: dict[Ticket, int] = field(default_factory=dict)

    def fits(self, ticket: Ticket, bound: Bound) -> bool:
        num_inside = sum(
            num_sequences
            for inside, num_sequences in self.num_sequences_by_inside.items()
            if not bound.is_yielding or inside.priority >= ticket.priority
        )
        num_wanted = self.num_sequences_by_waiting[ticket]
        # What is larger than the bound goes when it is alone.
        return num_inside == 0 or num_inside + num_wanted <= bound.num_sequences


class Gate:
    """One for all models.

    INVARIANT: a request is let through only while what is inside and would not give way to it
    stays within the bound, or alone.

    Args:
        find_bound: asked every time, so that it may change.
    """

    def __init__(self, find_bound: Callable[[str], Bound]) -> None:
        self._find_bound = find_bound
        self._lanes: dict[str, _Lane] = {}

    async def enter(self, ticket: Ticket, *, num_sequences: int, num_tokens: int) -> None:
        """Wait for the request's turn; whoever is cancelled here has left.

        Args:
            ticket: of the request.
            num_sequences: that it will bring.
            num_tokens: of its prompt.
        """
        lane = self._lanes.setdefault(ticket.model, _Lane())
        passed = asyncio.get_running_loop().create_future()
        lane.line.add(ticket, num_tokens)
        lane.num_sequences_by_waiting[ticket] = num_sequences
        lane.future_by_ticket[ticket] = passed
        self.wake(ticket.model)
        try:
            await passed
        except BaseException:
            self.leave(ticket)
            raise

    def leave(self, ticket: Ticket) -> None:
        """Give the place to the next, whether it was let through or waits; safe at any time."""
        lane = self._lanes.get(ticket.model)
        if lane is None:
            return
        if lane.num_sequences_by_waiting.pop(ticket, None) is not None:
            lane.line.drop(ticket)
            del lane.future_by_ticket[ticket]
        lane.num_sequences_by_inside.pop(ticket, None)
        self.wake(ticket.model)

    def charge(self, ticket: Ticket, num_tokens: int) -> None:
        """Hold against its caller what a request that was let through has generated."""
        if num_tokens:
            self._lanes[ticket.model].line.charge(ticket, num_tokens)

    def wake_all(self) -> None:
        """Let through whoever may pass now: call it when the bound of models has changed."""
        for model in self._lanes:
            self.wake(model)

    def wake(self, model: str) -> None:
        """Let through whoever may pass to a model now."""
        lane = self._lanes.get(model)
        if lane is None:
            return
        while (ticket := lane.line.find_next()) is not None:
            # In order of rank: who overtook a large one would keep it waiting for ever.
            if not lane.fits(ticket, self._find_bound(model)):
                return
            lane.line.take(ticket)
            lane.num_sequences_by_inside[ticket] = lane.num_sequences_by_waiting.pop(ticket)
            passed = lane.future_by_ticket.pop(ticket)
            if not passed.done():
                passed.set_result(None)


def find_bound(manager: OptimizationManager, model: str) -> Bound:
    """Return what the engines that run a model now can work on, all replicas together.

    Those count that take requests, and of the others what they still have to end: it is inside.

    Our batcher has a few more to hand, so that no place in its next step stays empty while the next
    request comes over. An engine with a batcher of its own gets a batch: beyond that it would queue
    by arrival; each server elsewhere is one. The batches of embedding models are of texts, and
    every request brings one at least.
    """
    plan = manager.plans[model]
    size = plan.batcher.max_batch_size
    replicas = manager.find_replicas(model)
    workers = list(replicas.serving.values()) if replicas is not None else []
    if plan.task == "embed":
        return Bound(_with_next(size) * max(1, len(workers)))
    if (remote := manager.find_remote(model)) is not None:
        return Bound(size * max(1, remote.num_ready))
    if replicas is None or not workers:
        return Bound(size)
    if any(worker.ready.batches_itself for worker in workers):
        return Bound(size * len(workers) + replicas.num_ending)
    return Bound(_with_next(size) * len(workers) + replicas.num_ending, is_yielding=True)


def _with_next(max_batch_size: int) -> int:
    return max_batch_size + max_batch_size // 4 + 1

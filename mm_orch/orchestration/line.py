"""Who goes next among the requests that wait for one model: a pure decision.

Of one priority, the callers take turns by what they were given: each has a clock that its requests'
tokens move on, and the one that is furthest behind is served (start-time fair queueing, Goyal et
al. 1996, with the caller as the flow). A caller that comes back after a while begins where the
others are: what it did not use is not saved up, and what it had alone is not held against it.

    priority 0    A: a1 a2 a3 ... a99      clock 700  (a1 was long)
                  B: b1                    clock 300  <- next of priority 0
    priority 5    A: a100                             <- against b1, by rank: priority and age

Between priorities, those that are next compare by rank (core.priority), so that nothing starves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mm_orch.orchestration.ticket import Ticket

_Flow = tuple[int, str]


@dataclass(slots=True)
class _Waiting:
    """The requests of one caller and priority, in order of arrival, with their tokens."""

    clock: float = 0.0
    num_tokens_by_ticket: dict[Ticket, int] = field(default_factory=dict)

    @property
    def first(self) -> Ticket:
        return next(iter(self.num_tokens_by_ticket))


class WaitingLine:
    """The requests that wait for one model."""

    def __init__(self) -> None:
        self._flows: dict[_Flow, _Waiting] = {}
        # Of each priority, where the caller that was served last stood before.
        self._clocks: dict[int, float] = {}

    def add(self, ticket: Ticket, num_tokens: int) -> None:
        """Queue a request that will compute about so many tokens; at least one is counted."""
        flow = self._flows.setdefault(_flow_of(ticket), _Waiting())
        if not flow.num_tokens_by_ticket:
            flow.clock = max(flow.clock, self._clocks.get(ticket.priority, 0.0))
        flow.num_tokens_by_ticket[ticket] = max(1, num_tokens)

    def find_next(self) -> Ticket | None:
        """Return whose turn it is."""
        next_by_priority: dict[int, tuple[float, float, Ticket]] = {}
        for (priority, _), flow in self._flows.items():
            if flow.num_tokens_by_ticket:
                first = flow.first
                found = (flow.clock, first.admitted_at_s, first)
                best = next_by_priority.get(priority)
                if best is None or found[:2] < best[:2]:
                    next_by_priority[priority] = found
        tickets = [found[2] for found in next_by_priority.values()]
        return min(tickets, key=lambda one: (one.rank_s, -one.priority), default=None)

    def take(self, ticket: Ticket) -> None:
        """Let a request go; its tokens move its caller's clock."""
        flow = self._flows[_flow_of(ticket)]
        self._clocks[ticket.priority] = max(self._clocks.get(ticket.priority, 0.0), flow.clock)
        flow.clock += flow.num_tokens_by_ticket.pop(ticket)

    def drop(self, ticket: Ticket) -> None:
        """Forget a request that waits no more; it has cost nothing."""
        self._flows[_flow_of(ticket)].num_tokens_by_ticket.pop(ticket, None)

    def charge(self, ticket: Ticket, num_tokens: int) -> None:
        """Move the clock of a caller whose request has turned out to cost more."""
        self._flows[_flow_of(ticket)].clock += num_tokens


def _flow_of(ticket: Ticket) -> _Flow:
    return ticket.priority, ticket.caller

"""Who may come in: counts what waits and runs, refuses at once what is over the bound."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from mm_orch.core.errors import DrainingError, QueueFullError
from mm_orch.orchestration.drain_rate import DrainRate

if TYPE_CHECKING:
    from mm_orch.core.clock import Clock


class Ticket:
    """One admitted request's place: waiting until its first step, then running."""

    def __init__(self, model: str, admitted_at_s: float) -> None:
        self.model = model
        self.admitted_at_s = admitted_at_s
        self.is_running = False


class Admission:
    """Places for requests.

    INVARIANT: the number that wait never exceeds ``queue_capacity``.
    """

    def __init__(self, queue_capacity: int, clock: Clock) -> None:
        self.queue_capacity = queue_capacity
        self.is_draining = False
        self.draining_models: set[str] = set()
        """Models that take no new requests, for as long as they are in it."""
        self._clock = clock
        self._drain_rate = DrainRate()
        # In order of admission, so the first is the oldest.
        self._tickets: dict[Ticket, None] = {}
        self._num_waiting_by_model: Counter[str] = Counter()
        self._num_running_by_model: Counter[str] = Counter()

    @property
    def num_waiting(self) -> int:
        """Requests admitted whose first step has not run."""
        return self._num_waiting_by_model.total()

    @property
    def num_running(self) -> int:
        """Requests between their first step and their end."""
        return self._num_running_by_model.total()

    def count_waiting(self, model: str) -> int:
        """Requests of one model that wait."""
        return self._num_waiting_by_model[model]

    def count_running(self, model: str) -> int:
        """Requests of one model that run."""
        return self._num_running_by_model[model]

    def find_rate(self) -> float | None:
        """Requests that left per second, lately; None when too few did."""
        return self._drain_rate.find_rate(self._clock())

    def enter(self, model: str) -> Ticket:
        """Take a place in the queue.

        Raises:
            DrainingError: the server or this model is being drained.
            QueueFullError: ``queue_capacity`` requests wait already.
        """
        now_s = self._clock()
        what = self._find_draining(model)
        if what:
            raise DrainingError(
                f"{what} is being drained and takes no new requests.",
                retry_after_s=self._retry_after_s(len(self._tickets), now_s),
            )
        if self.num_waiting >= self.queue_capacity:
            raise QueueFullError(
                f"{self.num_waiting} requests are waiting and monitoring.server.queue_capacity is"
                f" {self.queue_capacity}.",
                retry_after_s=self._retry_after_s(1, now_s),
            )
        ticket = Ticket(model, now_s)
        self._tickets[ticket] = None
        self._num_waiting_by_model[model] += 1
        return ticket

    def start(self, ticket: Ticket) -> None:
        """Move a ticket from waiting to running; further calls change nothing."""
        if not ticket.is_running:
            ticket.is_running = True
            self._num_waiting_by_model[ticket.model] -= 1
            self._num_running_by_model[ticket.model] += 1

    def leave(self, ticket: Ticket) -> None:
        """Give the place back; called once for each ticket, however the request ended."""
        del self._tickets[ticket]
        if ticket.is_running:
            self._num_running_by_model[ticket.model] -= 1
            self._drain_rate.record_end(self._clock())
        else:
            self._num_waiting_by_model[ticket.model] -= 1

    def _find_draining(self, model: str) -> str:
        if self.is_draining:
            return "The server"
        return f"Model {model}" if model in self.draining_models else ""

    def _retry_after_s(self, num_ahead: int, now_s: float) -> float:
        oldest = next(iter(self._tickets), None)
        return self._drain_rate.retry_after_s(
            now_s,
            num_ahead=num_ahead,
            oldest_start_s=oldest.admitted_at_s if oldest else None,
        )

"""Who may come in: counts what waits and runs, refuses at once what cannot be served."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from mm_orch.core.errors import DeadlineTooSoonError, DrainingError, QueueFullError
from mm_orch.orchestration.drain_rate import DrainRate, ModelDrain, bound_retry_s
from mm_orch.orchestration.promises import Asker, Promises
from mm_orch.orchestration.ticket import Ticket

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mm_orch.core.clock import Clock


# Higher priorities come in beside a full queue, but not without end: each of the levels could fill
# it once more.
_MAX_QUEUES = 2
# Of the queue's places, as many again are kept for those that come back when they were told to:
# where ten ask for each place, who waits politely would else be the last to get one.
_KEPT_SHARE = 4


class Admission:
    """Places for requests.

    Those of lower priority take no place from a higher one: else a full queue would keep out who is
    to go first. Who was refused and asks the same again, no sooner than told, finds places that are
    kept for such. A run of a workflow is let in once, as a whole: its place counts as a request
    that waits until the first request of the run takes it over, and no request of the run is
    refused afterwards.

    INVARIANT: without later requests of runs, no more than ``queue_capacity`` of each priority
    wait, a quarter more with those that came back, and no more than twice as many in all.
    """

    def __init__(self, queue_capacity: int, clock: Clock) -> None:
        self.queue_capacity = queue_capacity
        self.is_draining = False
        self.draining_models: set[str] = set()
        """Models that take no new requests, for as long as they are in it."""
        self._clock = clock
        self._drain_rate = DrainRate()
        self._drain_by_model: defaultdict[str, ModelDrain] = defaultdict(ModelDrain)
        # In order of admission, so the first is the oldest.
        self._tickets: dict[Ticket, None] = {}
        self._runs: set[Ticket] = set()
        self._num_waiting_by_model: Counter[str] = Counter()
        self._num_running_by_model: Counter[str] = Counter()
        # By priority and caller, of each model.
        self._num_waiting_by_flow: defaultdict[str, Counter[tuple[int, str]]] = defaultdict(Counter)
        self._promises = Promises()

    @property
    def num_waiting(self) -> int:
        """Requests admitted whose first step has not run."""
        return self._num_waiting_by_model.total()

    @property
    def num_running(self) -> int:
        """Requests between their first step and their end."""
        return self._num_running_by_model.total()

    @property
    def num_runs(self) -> int:
        """Runs of workflows that were let in and have not ended."""
        return len(self._runs)

    def count_waiting(self, model: str) -> int:
        """Requests of one model that wait."""
        return self._num_waiting_by_model[model]

    def count_running(self, model: str) -> int:
        """Requests of one model that run."""
        return self._num_running_by_model[model]

    def find_rate(self) -> float | None:
        """Requests that left per second, lately; None when too few did."""
        return self._drain_rate.find_rate(self._clock())

    def enter(
        self,
        model: str,
        *,
        caller: str = "",
        priority: int = 0,
        timeout_s: float = math.inf,
        run: Ticket | None = None,
        content: object = None,
    ) -> Ticket:
        """Take a place in the queue.

        Args:
            model: whose engine is to answer.
            caller: name of the key that the request belongs to.
            priority: of the request.
            timeout_s: it is of no use later than this.
            run: that it is a part of.
            content: what is asked; tells a request that is asked again.

        Raises:
            DrainingError: the server or this model is being drained.
            QueueFullError: ``queue_capacity`` requests of this or a higher priority wait already,
                a quarter more for one that was told to come back, or twice as many of any.
            DeadlineTooSoonError: at the present pace its turn would come too late.
        """
        now_s = self._clock()
        returned = None
        if run not in self._runs:
            self._refuse_draining(model, now_s)
            returned = self._refuse_full(priority, (caller, model, content), now_s)
            self._refuse_hopeless(model, (priority, caller), timeout_s, now_s)
        if returned is not None:
            self._promises.redeem(returned)
        ticket = Ticket(model, now_s, caller=caller, priority=priority)
        self._tickets[ticket] = None
        self._count_waiting(ticket, 1)
        if run in self._tickets:
            # Its first request: from now on that one waits in place of the run.
            self.leave(run)
        return ticket

    def enter_run(
        self,
        model: str,
        *,
        caller: str = "",
        priority: int = 0,
        timeout_s: float = math.inf,
        content: object = None,
    ) -> Ticket:
        """Take a place for a run of a workflow; as :meth:`enter`."""
        run = self.enter(
            model, caller=caller, priority=priority, timeout_s=timeout_s, content=content
        )
        self._runs.add(run)
        return run

    def leave_run(self, run: Ticket) -> None:
        """Give a run's place back; called once for each."""
        self._runs.discard(run)
        if run in self._tickets:
            self.leave(run)

    def refuse_runs(self) -> None:
        """Let what runs ask for from now on be refused as everything else is."""
        self._runs.clear()

    def start(self, ticket: Ticket) -> None:
        """Move a ticket from waiting to running; further calls change nothing."""
        if not ticket.is_running:
            ticket.is_running = True
            self._count_waiting(ticket, -1)
            self._num_running_by_model[ticket.model] += 1

    def leave(self, ticket: Ticket) -> None:
        """Give the place back; called once for each ticket, however the request ended."""
        del self._tickets[ticket]
        if ticket.is_running:
            now_s = self._clock()
            self._num_running_by_model[ticket.model] -= 1
            self._drain_rate.record_end(now_s)
            drain = self._drain_by_model[ticket.model]
            drain.record_end(now_s, num_waiting=self.count_waiting(ticket.model))
        else:
            self._count_waiting(ticket, -1)

    def _count_waiting(self, ticket: Ticket, change: int) -> None:
        model, flow = ticket.model, (ticket.priority, ticket.caller)
        self._num_waiting_by_model[model] += change
        flows = self._num_waiting_by_flow[model]
        flows[flow] += change
        if not flows[flow]:
            del flows[flow]
        if not self._num_waiting_by_model[model]:
            self._drain_by_model[model].end_backlog()

    def _refuse_draining(self, model: str, now_s: float) -> None:
        if self.is_draining:
            what, models = "The server", set(self._drain_by_model)
        elif model in self.draining_models:
            what, models = f"Model {model}", {model}
        else:
            return
        num_ahead = sum(self.count_waiting(one) + self.count_running(one) for one in models)
        raise DrainingError(
            f"{what} is being drained and takes no new requests.",
            retry_after_s=self._retry_after_s(models, num_ahead, now_s),
        )

    def _refuse_full(
        self, priority: int, asking: tuple[str, str, object], now_s: float
    ) -> Asker | None:
        """Refuse where there is no place; return whoever takes one that was kept."""
        is_over = self.num_waiting >= _MAX_QUEUES * self.queue_capacity
        num_waiting = self._count_not_below(priority)
        if not is_over and num_waiting < self.queue_capacity:
            return None
        # Only now, so that who comes in at once pays nothing for it.
        asker = Asker.of(*asking)
        num_kept = math.ceil(self.queue_capacity / _KEPT_SHARE)
        if (
            not is_over
            and num_waiting < self.queue_capacity + num_kept
            and self._promises.has_kept_its_word(asker, now_s)
        ):
            return asker
        # Whichever of those that wait begins, its place is free: whatever model it is for.
        num_ahead = 1 + min(self._promises.count(now_s), self.queue_capacity)
        models = {model for model, count in self._num_waiting_by_model.items() if count}
        retry_after_s = self._retry_after_s(models, num_ahead, now_s)
        self._promises.add(asker, now_s + retry_after_s)
        raise QueueFullError(
            f"{self.num_waiting} requests are waiting and monitoring.server.queue_capacity is"
            f" {self.queue_capacity}.",
            retry_after_s=retry_after_s,
        )

    def _count_not_below(self, priority: int) -> int:
        """Return how many wait, for any model, of this priority or a higher one."""
        return sum(
            num_waiting
            for flows in self._num_waiting_by_flow.values()
            for (other_priority, _), num_waiting in flows.items()
            if other_priority >= priority
        )

    def _refuse_hopeless(
        self, model: str, flow: tuple[int, str], timeout_s: float, now_s: float
    ) -> None:
        num_ahead = count_ahead(self._num_waiting_by_flow[model], flow)
        rate = self._drain_by_model[model].find_founded_rate(now_s)
        if rate is None or num_ahead <= rate * timeout_s:
            return
        raise DeadlineTooSoonError(
            f"{num_ahead} requests go before this one and {rate:.2g} leave per second, so it would"
            f" not begin within its {timeout_s:g} s.",
            retry_after_s=bound_retry_s(num_ahead / rate - timeout_s),
            remedy="Raise timeout_s, or send it later.",
        )

    def _retry_after_s(self, models: set[str], num_ahead: int, now_s: float) -> float:
        """Estimate when so many requests of these models will have moved on."""
        found = [self._drain_by_model[model].find_rate(now_s) for model in models]
        rates = [rate for rate in found if rate is not None]
        if rates:
            return bound_retry_s(num_ahead / sum(rates))
        # Before any rate is known, the age of the oldest is a lower bound of what one takes.
        ages_s = (now_s - one.admitted_at_s for one in self._tickets if one.model in models)
        return bound_retry_s(next(ages_s, 0.0))


def count_ahead(num_waiting_by_flow: Mapping[tuple[int, str], int], flow: tuple[int, str]) -> int:
    """Return how many of those that wait go before a newcomer.

    All of higher priority do. Of its own, callers take turns: one more of each than its caller has
    waiting. That is few rather than many: what is long, or has grown old, is not counted.

    Args:
        num_waiting_by_flow: requests by priority and caller.
        flow: priority and caller of the newcomer.
    """
    priority, caller = flow
    num_own = num_waiting_by_flow.get(flow, 0)
    num_ahead = num_own
    for (other_priority, other_caller), num_waiting in num_waiting_by_flow.items():
        if other_priority > priority:
            num_ahead += num_waiting
        elif other_priority == priority and other_caller != caller:
            num_ahead += min(num_waiting, num_own + 1)
    return num_ahead

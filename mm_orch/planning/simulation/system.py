"""The event loop: sessions arrive, requests are balanced, replicas step, die and come back.

arrival --overhead--> balancer --> replica: waiting, prompts, decoding --> end --think--> next
   |refused: queue full                 |dies: to the balancer again              turn
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from mm_orch.planning.simulation.replica import Replica
from mm_orch.planning.simulation.work import Refusal, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mm_orch.planning.costs import StepCosts
    from mm_orch.planning.simulation.balancing import Balancer
    from mm_orch.planning.simulation.limits import ReplicaLimits
    from mm_orch.planning.simulation.work import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """How replicas die, independently of one another.

    Attributes:
        mean_life_s: between a start and a death; lives are exponential.
        restart_s: from a death until the replica takes requests again, with an empty cache.
    """

    mean_life_s: float
    restart_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemSpec:
    """What is simulated.

    Attributes:
        num_replicas: at least one.
        costs: of the steps of each.
        limits: of each.
        queue_capacity: most requests that wait for their first step; more are refused.
        overhead_s: that the server adds to each request before a replica has it.
        failures: None where nothing dies.
    """

    num_replicas: int
    costs: StepCosts
    limits: ReplicaLimits
    queue_capacity: int = 1 << 30
    overhead_s: float = 0.0
    failures: Failures | None = None


@dataclass(slots=True)
class Outcome:
    """What came of a simulation.

    Attributes:
        requests: all that came, refused ones too, in order of arrival at the server.
        replicas: as they stood at the end.
        ended_s: when the last request ended.
        num_deaths: of replicas.
        num_events: that the loop handled.
    """

    replicas: list[Replica]
    requests: list[Request] = field(default_factory=list)
    ended_s: float = 0.0
    num_deaths: int = 0
    num_events: int = 0


def simulate(
    spec: SystemSpec, sessions: Iterable[Session], balancer: Balancer, *, seed: int = 0
) -> Outcome:
    """Run all sessions to their end; equal arguments give equal outcomes.

    Args:
        spec: the system.
        sessions: in order of arrival; taken one by one, so that they may be many.
        balancer: which replica takes a request; used for this one simulation.
        seed: of the noise of steps, and of deaths.
    """
    return _Loop(spec, sessions, balancer, seed).run()


class _Loop:
    """INVARIANT: a request that was let in is dispatched, stranded or with one replica."""

    def __init__(
        self, spec: SystemSpec, sessions: Iterable[Session], balancer: Balancer, seed: int
    ) -> None:
        self._spec = spec
        self._sessions = enumerate(sessions)
        self._balancer = balancer
        self._dice = random.Random(seed)  # noqa: S311 - reproducible on purpose
        self._outcome = Outcome(
            [
                Replica(number, spec.costs, spec.limits, self._dice)
                for number in range(spec.num_replicas)
            ]
        )
        self._alive = list(self._outcome.replicas)
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._order = count()
        # By number, while any of its turns is to come.
        self._open: dict[int, Session] = {}
        self._num_waiting = 0
        self._stranded: list[Request] = []

    def run(self) -> Outcome:
        self._await_session()
        for replica in self._outcome.replicas:
            self._await_death(0.0, replica)
        # Deaths go on for ever; with the last session's end the rest is of no interest.
        while self._open:
            now_s, _, handle, subject = heapq.heappop(self._events)
            self._outcome.num_events += 1
            handle(now_s, *subject)
        return self._outcome

    def _push(self, at_s: float, handle: Callable[..., None], *subject: object) -> None:
        heapq.heappush(self._events, (at_s, next(self._order), handle, subject))

    # -- requests --------------------------------------------------------------------------------

    def _await_session(self) -> None:
        found = next(self._sessions, None)
        if found is not None:
            number, session = found
            self._open[number] = session
            self._push(session.arrived_s, self._begin_session, number)

    def _begin_session(self, now_s: float, number: int) -> None:
        self._await_session()
        self._arrive(now_s, number, 0, 0)

    def _arrive(self, now_s: float, number: int, turn: int, num_history: int) -> None:
        session = self._open[number]
        asked = session.turns[turn]
        request = Request(
            session=number,
            turn=turn,
            arrived_s=now_s,
            num_prompt_tokens=(num_history or session.num_group_tokens) + asked.num_prompt_tokens,
            num_output_tokens=asked.num_output_tokens,
            group=session.group,
            num_group_tokens=session.num_group_tokens,
        )
        self._outcome.requests.append(request)
        if request.num_known_tokens + request.num_left > self._spec.limits.kv_tokens:
            self._refuse(request, Refusal.TOO_LONG, now_s)
        elif self._num_waiting >= self._spec.queue_capacity:
            self._refuse(request, Refusal.QUEUE_FULL, now_s)
        else:
            self._num_waiting += 1
            self._push(now_s + self._spec.overhead_s, self._dispatch, request)

    def _refuse(self, request: Request, reason: Refusal, now_s: float) -> None:
        """Turn a request away, and with it the rest of its session."""
        request.refused_because = reason
        self._outcome.ended_s = now_s
        del self._open[request.session]

    def _dispatch(self, now_s: float, request: Request) -> None:
        if not self._alive:
            self._stranded.append(request)
            return
        replica = self._balancer.choose(request, self._alive)
        replica.submit(request)
        if not replica.is_stepping:
            self._begin_step(replica, now_s)
        elif (end_s := replica.cut_short(now_s)) is not None:
            replica.epoch += 1
            self._push(end_s, self._finish_step, replica, replica.epoch)

    def _end(self, request: Request, now_s: float) -> None:
        session, turn = self._open[request.session], request.turn + 1
        self._outcome.ended_s = now_s
        if turn == len(session.turns):
            del self._open[request.session]
            return
        num_history = request.num_prompt_tokens + request.num_output_tokens
        due_s = now_s + session.turns[turn].think_s
        self._push(due_s, self._arrive, request.session, turn, num_history)

    # -- replicas --------------------------------------------------------------------------------

    def _begin_step(self, replica: Replica, now_s: float) -> None:
        begun = replica.begin(now_s)
        if begun is not None:
            end_s, num_started = begun
            self._num_waiting -= num_started
            self._push(end_s, self._finish_step, replica, replica.epoch)

    def _finish_step(self, now_s: float, replica: Replica, epoch: int) -> None:
        if epoch != replica.epoch:
            return
        ended = replica.finish(now_s)
        self._begin_step(replica, now_s)
        for request in ended:
            self._end(request, now_s)

    def _await_death(self, now_s: float, replica: Replica) -> None:
        if self._spec.failures is not None:
            life_s = self._dice.expovariate(1 / self._spec.failures.mean_life_s)
            self._push(now_s + life_s, self._let_die, replica, self._spec.failures)

    def _let_die(self, now_s: float, replica: Replica, failures: Failures) -> None:
        self._outcome.num_deaths += 1
        self._alive.remove(replica)
        self._push(now_s + failures.restart_s, self._bring_back, replica)
        for request in replica.die(now_s):
            request.num_moves += 1
            self._dispatch(now_s, request)

    def _bring_back(self, now_s: float, replica: Replica) -> None:
        replica.is_alive = True
        self._alive.append(replica)
        self._await_death(now_s, replica)
        stranded, self._stranded = self._stranded, []
        for request in stranded:
            self._dispatch(now_s, request)

"""Which replica a request goes to: the policies that are compared."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mm_orch.planning.simulation.replica import Replica
    from mm_orch.planning.simulation.work import Request

    Load = Callable[[Replica], int]


class Balancer(Protocol):
    """A policy; it sees what a server would know when the request comes."""

    def choose(self, request: Request, alive: Sequence[Replica]) -> Replica:
        """Return one of the replicas that are alive, of which there is at least one."""


def count_requests(replica: Replica) -> int:
    """Load as the number of unfinished requests."""
    return replica.num_unfinished


def count_tokens(replica: Replica) -> int:
    """Load as the tokens still to be computed."""
    return replica.num_queued_tokens


class RandomChoice:
    """Any replica, whatever it has to do."""

    def __init__(self, seed: int = 0) -> None:
        self._dice = random.Random(seed)  # noqa: S311 - reproducible on purpose

    def choose(self, request: Request, alive: Sequence[Replica]) -> Replica:  # noqa: ARG002 - a Balancer's
        """Return one of them by chance."""
        return alive[int(self._dice.random() * len(alive))]


class RoundRobin:
    """One after another."""

    def __init__(self) -> None:
        self._turn = -1

    def choose(self, request: Request, alive: Sequence[Replica]) -> Replica:  # noqa: ARG002 - a Balancer's
        """Return the next."""
        self._turn += 1
        return alive[self._turn % len(alive)]


class PowerOfTwo:
    """The less loaded of two replicas that chance names (Mitzenmacher 2001)."""

    def __init__(self, seed: int = 0, *, load: Load = count_tokens) -> None:
        self._dice = random.Random(seed)  # noqa: S311 - reproducible on purpose
        self._load = load

    def choose(self, request: Request, alive: Sequence[Replica]) -> Replica:  # noqa: ARG002 - a Balancer's
        """Return the one with less to do."""
        return min(self.draw(alive), key=self._load)

    def draw(self, alive: Sequence[Replica]) -> tuple[Replica, Replica]:
        """Return two replicas, different ones where there are two."""
        first = int(self._dice.random() * len(alive))
        second = int(self._dice.random() * max(1, len(alive) - 1))
        return alive[first], alive[second + (second >= first) if len(alive) > 1 else 0]


class PrefixAffinity:
    """Where the beginning lies, unless computing it anew elsewhere is done sooner.

    A candidate's price is what it has to compute before the request is done: its queue, and the
    part of the prompt that it does not know. Candidates are the replica that had the session's
    turn before, one that had the group last, and two by chance.
    """

    def __init__(self, seed: int = 0, *, load: Load = count_tokens) -> None:
        self._pairs = PowerOfTwo(seed)
        self._load = load
        self._by_session: dict[int, Replica] = {}
        self._by_group: dict[int, Replica] = {}

    def choose(self, request: Request, alive: Sequence[Replica]) -> Replica:
        """Return the cheapest candidate."""
        found = [self._by_session.get(request.session)]
        if request.group is not None:
            found.append(self._by_group.get(request.group))
        candidates = [one for one in found if one is not None and one.is_alive]
        candidates += self._pairs.draw(alive)
        chosen = min(candidates, key=lambda one: self._load(one) - one.count_reusable(request))
        self._by_session[request.session] = chosen
        if request.group is not None:
            self._by_group[request.group] = chosen
        return chosen


POLICIES: dict[str, Callable[[int], Balancer]] = {
    "random": RandomChoice,
    "round_robin": lambda _: RoundRobin(),
    "power_of_two": PowerOfTwo,
    "prefix_affinity": PrefixAffinity,
}
"""What makes each policy, given a seed."""

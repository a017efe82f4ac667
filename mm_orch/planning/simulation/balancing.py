"""Which replica a request goes to: the policies that are compared."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Protocol

from mm_orch.optimization.replicas import balancer as replicas
from mm_orch.optimization.replicas.held_prefixes import BLOCK_TOKENS
from mm_orch.planning.simulation.prefix_cache import group_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mm_orch.planning.simulation.prefix_cache import PrefixCache
    from mm_orch.planning.simulation.replica import Replica
    from mm_orch.planning.simulation.work import Request


class Balancer(Protocol):
    """A policy; it sees what a server would know when the request comes."""

    def choose(self, request: Request, alive: Sequence[Replica]) -> Replica:
        """Return one of the replicas that are alive, of which there is at least one."""


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
    """The one with fewer tokens to compute of two that chance names (Mitzenmacher 2001)."""

    def __init__(self, seed: int = 0) -> None:
        self._dice = random.Random(seed)  # noqa: S311 - reproducible on purpose

    def choose(self, request: Request, alive: Sequence[Replica]) -> Replica:  # noqa: ARG002 - a Balancer's
        """Return the one with less to do."""
        return min(self.draw(alive), key=lambda one: one.num_queued_tokens)

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

    def __init__(self, seed: int = 0) -> None:
        self._pairs = PowerOfTwo(seed)
        self._by_session: dict[int, Replica] = {}
        self._by_group: dict[int, Replica] = {}

    def choose(self, request: Request, alive: Sequence[Replica]) -> Replica:
        """Return the cheapest candidate."""
        found = [self._by_session.get(request.session)]
        if request.group is not None:
            found.append(self._by_group.get(request.group))
        candidates = [one for one in found if one is not None and one.is_alive]
        candidates += self._pairs.draw(alive)
        chosen = min(
            candidates, key=lambda one: one.num_queued_tokens - one.count_reusable(request)
        )
        self._by_session[request.session] = chosen
        if request.group is not None:
            self._by_group[request.group] = chosen
        return chosen


class Served:
    """The server's own balancer, told of simulated replicas what it sees of real ones.

    It looks at all of them for each request, so that of a thousand a simulation takes long.

    Args:
        seed: of what is left to chance.
        policy: a name of the option ``optimization.balancing``.
    """

    def __init__(self, seed: int = 0, *, policy: str = "prefix") -> None:
        self._balancer = replicas.Balancer(policy, seed=seed)
        # As long as a replica has this cache, it has not lost what it held.
        self._known: dict[int, PrefixCache] = {}

    def choose(self, request: Request, alive: Sequence[Replica]) -> Replica:
        """Return the replica that the server would choose."""
        for one in alive:
            if self._known.get(one.number) is not one.cache:
                self._known[one.number] = one.cache
                self._balancer.join(one.number, max_tokens=one.limits.kv_tokens)
        by_number = {one.number: one for one in alive}
        chosen = self._balancer.choose(
            _name_blocks(request),
            num_tokens=request.num_known_tokens + request.num_left,
            conversation="",
            queued_tokens={number: one.num_queued_tokens for number, one in by_number.items()},
        )
        return by_number[chosen.replica]


def _name_blocks(request: Request) -> list[int]:
    """Name the blocks of a prompt: equal names mean equal tokens up to there."""
    num_shared = request.num_group_tokens // BLOCK_TOKENS if request.group is not None else 0
    num_blocks = request.num_known_tokens // BLOCK_TOKENS
    shared = [hash((group_key(request.group or 0), number)) for number in range(num_shared)]
    return shared + [hash((request.session, number)) for number in range(num_shared, num_blocks)]


POLICIES: dict[str, Callable[[int], Balancer]] = {
    "random": RandomChoice,
    "round_robin": lambda _: RoundRobin(),
    "power_of_two": PowerOfTwo,
    "prefix_affinity": PrefixAffinity,
    "server's prefix": Served,
}
"""What makes each policy, given a seed."""

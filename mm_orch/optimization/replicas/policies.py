"""By what a replica is chosen: decisions without I/O.

prefix, the default:

the conversation's replica ->  the one that holds most of the prompt  ->  the shorter queue of two
          |                                    |
          +---- only while the queue there is not too long: else the next rule ----+

A queue is counted in tokens that are still to be computed. Affinity saves work but gathers it in
one place, so it is followed within bounds: of the queue, and for beginnings that many prompts
share also of the memory that is taken.

Where several balancers choose among the same replicas, each of which has a name for all of them,
what one of them does not know is looked for in the order of ``rendezvous``: a conversation's own
replica is the first, and two that are drawn are the first two that may take more.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Protocol

from mm_orch.optimization.replicas.offers import LIGHT_QUEUE_TOKENS, Rule, shortest_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.optimization.replicas.offers import Offer, Offers


class Policy(Protocol):
    """Chooses among several replicas; it may count what it has chosen, and knows no more."""

    def decide(self, offers: Offers) -> tuple[Offer, Rule]:
        """Return one of the offers, and what decided."""


class PrefixAffinity:
    """Where the conversation or the prompt's beginning is, in bounds; else the shorter queue."""

    def __init__(self, seed: int) -> None:
        self._dice = Random(seed)  # noqa: S311 - no secret: it spreads load

    def decide(self, offers: Offers) -> tuple[Offer, Rule]:
        """See Policy."""
        own = offers.own
        if own is not None and (own.queue <= LIGHT_QUEUE_TOKENS or offers.is_within_bound(own)):
            return own, Rule.SESSION
        if holders := offers.holders:
            holder = shortest_of(holders)
            may_take = holder.held.is_own or not offers.is_crowded(holder)
            if may_take and _may_follow_prefix(holder, offers):
                return holder, Rule.PREFIX
        return self._roll(offers), Rule.LOAD

    def _roll(self, offers: Offers) -> Offer:
        """Take the shorter queue of two that are drawn among those that may take more."""
        able = [offer for offer in offers.all if offers.is_within_bound(offer)]
        if not able:
            # The request is large beside the queues.
            able = [offer for offer in offers.all if offer.queue == offers.shortest_queue]
        if ranked := offers.rank(able):
            # Others that know nothing of the conversation either draw the same.
            return min(ranked[:2], key=lambda one: one.queue)
        return shortest_of(self._dice.sample(able, min(2, len(able))))


class PowerOfTwo:
    """The shorter queue of two that chance has chosen (Mitzenmacher 2001)."""

    def __init__(self, seed: int) -> None:
        self._dice = Random(seed)  # noqa: S311 - no secret: it spreads load

    def decide(self, offers: Offers) -> tuple[Offer, Rule]:
        """See Policy."""
        return shortest_of(self._dice.sample(offers.all, 2)), Rule.LOAD


class RoundRobin:
    """One after another."""

    def __init__(self, seed: int) -> None:
        self._turn = seed

    def decide(self, offers: Offers) -> tuple[Offer, Rule]:
        """See Policy."""
        self._turn += 1
        return offers.all[self._turn % len(offers.all)], Rule.TURN


class Chance:
    """Any, whatever it has to do."""

    def __init__(self, seed: int) -> None:
        self._dice = Random(seed)  # noqa: S311 - no secret: it spreads load

    def decide(self, offers: Offers) -> tuple[Offer, Rule]:
        """See Policy."""
        return self._dice.choice(offers.all), Rule.CHANCE


POLICIES: dict[str, Callable[[int], Policy]] = {
    "prefix": PrefixAffinity,
    "power_of_two": PowerOfTwo,
    "round_robin": RoundRobin,
    "random": Chance,
}
"""What makes each, given a seed, by the name that the option has for it."""


def _may_follow_prefix(offer: Offer, offers: Offers) -> bool:
    """Whether what it holds is a reason to give the replica this request too."""
    if offers.is_within_bound(offer):
        return True
    is_sooner = offer.queue - offers.shortest_queue <= offer.held.num_tokens
    return is_sooner and offer.queue <= LIGHT_QUEUE_TOKENS

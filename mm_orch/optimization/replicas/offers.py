"""The replicas that could take one request, as a policy sees them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mm_orch.optimization.replicas.rendezvous import rank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.optimization.replicas.held_prefixes import Held

MAX_IMBALANCE = 1.3
"""No replica gets a request that makes its queue longer than this times the mean, but for the
shortest queue, and for a light one."""

LIGHT_QUEUE_TOKENS = 2048
"""Below, a queue is a few steps long: waiting there costs less than computing a prompt again."""


class Rule(enum.Enum):
    """What decided, as metrics name it."""

    ONLY = "only"
    # The conversation's own replica.
    SESSION = "session"
    PREFIX = "prefix"
    LOAD = "load"
    TURN = "turn"
    CHANCE = "chance"


@dataclass(frozen=True, slots=True)
class Offer:
    """A replica that could take the request.

    Attributes:
        queue: tokens that it has still to compute.
        num_tokens: of each sequence of the request: its prompt, and what its answer is expected to
            have.
        held: what it holds of the request's prompt.
        num_kept_tokens: that it holds of all prompts.
        identity: what every balancer that gives it requests calls it; of all replicas, or none.
        num_sequences: of the request; they begin alike.
    """

    replica: int
    queue: int
    num_tokens: int
    held: Held
    num_kept_tokens: int
    identity: str = ""
    num_sequences: int = 1

    @property
    def num_new_tokens(self) -> int:
        """What the request adds to the queue, which counts each sequence by itself."""
        return self.num_sequences * max(0, self.num_tokens - self.held.num_tokens)


class Offers:
    """All of them, two at least; what is the same for each is counted once.

    Args:
        all_offers: one a replica.
        own: the replica that the request's conversation is at, where that is known.
        conversation: its explicit name; empty for none.
        opening: says which conversation it is where ``conversation`` does not; empty where
            nothing does.
    """

    def __init__(
        self,
        all_offers: Sequence[Offer],
        own: int | None,
        *,
        conversation: str = "",
        opening: str = "",
    ) -> None:
        self.all = all_offers
        self._own, self._conversation, self._key = own, conversation, conversation or opening
        self._queued = sum(offer.queue for offer in all_offers)

    @property
    def own(self) -> Offer | None:
        """Where the conversation goes; where that is not known, the first in the order."""
        known = next((offer for offer in self.all if offer.replica == self._own), None)
        if known is None and self._conversation:
            return next(iter(self.rank(self.all)), None)
        return known

    def rank(self, offers: Sequence[Offer]) -> list[Offer]:
        """Return them as every balancer orders them for the conversation; none where it cannot."""
        if not self._key or not all(offer.identity for offer in offers):
            return []
        by_replica = {offer.replica: offer for offer in offers}
        names = {offer.replica: offer.identity for offer in offers}
        return [by_replica[replica] for replica in rank(self._key, names)]

    @cached_property
    def shortest_queue(self) -> int:
        """The fewest tokens that any has to compute."""
        return min(offer.queue for offer in self.all)

    @cached_property
    def _mean_kept_tokens(self) -> float:
        return sum(offer.num_kept_tokens for offer in self.all) / len(self.all)

    @property
    def holders(self) -> list[Offer]:
        """Those that hold most of the prompt's beginning; none where nobody holds any."""
        most = max(offer.held.num_tokens for offer in self.all)
        return [offer for offer in self.all if most and offer.held.num_tokens == most]

    def is_within_bound(self, offer: Offer) -> bool:
        """Whether its queue is no longer than the mean allows when it has the request."""
        mean = (self._queued + offer.num_new_tokens) / len(self.all)
        return offer.queue + offer.num_new_tokens <= MAX_IMBALANCE * mean

    def is_crowded(self, offer: Offer) -> bool:
        """Whether it holds more than others do, by more than is let pass."""
        return offer.num_kept_tokens > MAX_IMBALANCE * self._mean_kept_tokens


def shortest_of(offers: Sequence[Offer]) -> Offer:
    """Return the one with the shortest queue, of equal ones that with the emptier memory.

    So conversations are spread over all memory.
    """
    return min(offers, key=lambda one: (one.queue, one.num_kept_tokens))

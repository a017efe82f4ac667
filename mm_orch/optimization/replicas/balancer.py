"""Which replica of a model gets a request: a decision without I/O.

the session's own replica  ->  the one that holds most of the prompt  ->  the shorter queue of two
          |                                    |
          +---- only while the queue there is not too long: else the next rule ----+

A queue is counted in tokens that are still to be computed. Affinity saves work but gathers it in
one place, so it is followed within bounds: of the queue, and for beginnings that many prompts
share also of the memory that is taken.

Where several balancers choose among the same replicas, each of which has a name for all of them,
what one of them does not know is looked for in the order of ``rendezvous``: a session's own replica
is the first, and two that are drawn are the first two that may take more.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from mm_orch.optimization.replicas.held_prefixes import HeldPrefixes
from mm_orch.optimization.replicas.rendezvous import rank

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mm_orch.optimization.replicas.held_prefixes import Held

MAX_IMBALANCE = 1.3
"""No replica gets a request that makes its queue longer than this times the mean, but for the
shortest queue, and for a light one."""

LIGHT_QUEUE_TOKENS = 2048
"""Below, a queue is a few steps long: waiting there costs less than computing a prompt again."""

_MAX_SESSIONS = 10_000


class Rule(enum.Enum):
    """What decided, as metrics name it."""

    ONLY = "only"
    SESSION = "session"
    PREFIX = "prefix"
    LOAD = "load"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Where a request goes.

    Attributes:
        num_held_tokens: of its prompt, from the beginning, that need no computing there.
        rule: what decided.
        held_since: the replica's prompt that used last what is held; 0 where nothing is.
        number: of this prompt among the replica's, counted from 1.
    """

    replica: int
    num_held_tokens: int
    rule: Rule
    held_since: int = 0
    number: int = 0


@dataclass(frozen=True, slots=True)
class _Offer:
    """A replica that could take the request.

    Attributes:
        queue: tokens that it has still to compute.
        num_tokens: of the request.
        held: what it holds of the request's prompt.
    """

    replica: int
    queue: int
    num_tokens: int
    held: Held

    @property
    def num_new_tokens(self) -> int:
        """What the request adds to the queue."""
        return max(0, self.num_tokens - self.held.num_tokens)


class Balancer:
    """Chooses among the replicas of one model, and remembers what each holds.

    Memory is bounded: by the replicas' KV memory, and by a number of sessions.

    Args:
        seed: of the dice.
    """

    def __init__(self, seed: int = 0) -> None:
        self._dice = Random(seed)  # noqa: S311 - no secret: it spreads load
        self._held_by_replica: dict[int, HeldPrefixes] = {}
        self._identity_by_replica: dict[int, str] = {}
        # The least recently used first.
        self._replica_by_session: OrderedDict[str, int] = OrderedDict()

    def join(self, replica: int, *, max_tokens: int, identity: str = "") -> None:
        """Let a replica take part; nothing is in its memory yet.

        Args:
            replica: its number.
            max_tokens: that its memory holds.
            identity: what every balancer that gives it requests calls it; of all replicas, or none.
        """
        self.leave(replica)
        self._held_by_replica[replica] = HeldPrefixes(max_tokens)
        if identity:
            self._identity_by_replica[replica] = identity

    def has(self, replica: int) -> bool:
        """Return whether a replica takes part."""
        return replica in self._held_by_replica

    def bound(self, replica: int, max_tokens: int) -> None:
        """Note that a replica's memory holds so many tokens from now on."""
        self._held_by_replica[replica].bound(max_tokens)

    def leave(self, replica: int) -> None:
        """Forget a replica and what it held; one that is unknown is forgotten already."""
        if self._held_by_replica.pop(replica, None) is not None:
            self._identity_by_replica.pop(replica, None)
            self._replica_by_session = OrderedDict(
                (session, one)
                for session, one in self._replica_by_session.items()
                if one != replica
            )

    def forget_held(self, replica: int, since: int) -> None:
        """Note that a replica has lost what it used last for the prompt of this number, or before.

        Args:
            replica: that takes part.
            since: of ``Choice.held_since``.
        """
        self._held_by_replica[replica].forget(since)

    def forget_session(self, session: str) -> None:
        """Note that a session has ended."""
        self._replica_by_session.pop(session, None)

    def count_held_tokens(self, replica: int) -> int:
        """Tokens that a replica is believed to hold."""
        return self._held_by_replica[replica].num_tokens

    def choose(
        self,
        names: Sequence[int],
        *,
        num_tokens: int,
        session: str,
        queued_tokens: Mapping[int, int],
        opening: str = "",
    ) -> Choice:
        """Choose a replica for a request, which is given to it at once.

        Args:
            names: the blocks of its prompt, of ``name_blocks``; none where nothing is reused.
            num_tokens: to be computed for it where nothing of it is held.
            session: explicit name of the conversation; empty for none.
            queued_tokens: tokens still to be computed, of each replica that takes requests now;
                they have all joined, and there is one at least.
            opening: says which conversation it is where ``session`` does not; empty where nothing
                does.
        """
        offers = [
            _Offer(one, queue, num_tokens, self._held_by_replica[one].find(names))
            for one, queue in queued_tokens.items()
        ]
        chosen, rule = self._decide(offers, session, opening)
        memory = self._held_by_replica[chosen.replica]
        memory.add(names)
        if session:
            self._keep_session(session, chosen.replica)
        return Choice(
            replica=chosen.replica,
            num_held_tokens=chosen.held.num_tokens,
            rule=rule,
            held_since=chosen.held.used_at,
            number=memory.num_prompts,
        )

    def _decide(self, offers: Sequence[_Offer], session: str, opening: str) -> tuple[_Offer, Rule]:
        if len(offers) == 1:
            return offers[0], Rule.ONLY
        own = self._find_own(offers, session)
        for offer in offers:
            is_light = offer.queue <= LIGHT_QUEUE_TOKENS
            if offer.replica == own and (is_light or _is_within_bound(offer, offers)):
                return offer, Rule.SESSION
        most = max(offer.held.num_tokens for offer in offers)
        holders = [offer for offer in offers if most and offer.held.num_tokens == most]
        if holders:
            holder = self._shortest(holders)
            may_take = holder.held.is_own or not self._is_crowded(holder, offers)
            if may_take and _may_follow_prefix(holder, offers):
                return holder, Rule.PREFIX
        return self._roll(offers, session or opening), Rule.LOAD

    def _find_own(self, offers: Sequence[_Offer], session: str) -> int | None:
        """Return the replica that a session goes to, if that may be."""
        own = self._replica_by_session.get(session)
        if session and all(offer.replica != own for offer in offers):
            return next(iter(self._rank(offers, session)), None)
        return own

    def _rank(self, offers: Sequence[_Offer], key: str) -> Sequence[int]:
        """Return the replicas as every balancer orders them for a key; none where it cannot."""
        known = self._identity_by_replica
        if not key or not known:
            return ()
        return rank(key, {offer.replica: known[offer.replica] for offer in offers})

    def _roll(self, offers: Sequence[_Offer], key: str) -> _Offer:
        """Take the shorter queue of two that are drawn among those that may take more."""
        able = [offer for offer in offers if _is_within_bound(offer, offers)]
        if not able:
            # The request is large beside the queues.
            shortest = min(offer.queue for offer in offers)
            able = [offer for offer in offers if offer.queue == shortest]
        if ranked := self._rank(able, key):
            # Others that know nothing of the conversation either draw the same.
            drawn = [offer for offer in able if offer.replica in ranked[:2]]
            return min(drawn, key=lambda one: (one.queue, ranked.index(one.replica)))
        return self._shortest(self._dice.sample(able, min(2, len(able))))

    def _shortest(self, offers: Sequence[_Offer]) -> _Offer:
        # Of equal queues the emptier memory: so conversations are spread over all of it.
        return min(offers, key=lambda one: (one.queue, self.count_held_tokens(one.replica)))

    def _is_crowded(self, offer: _Offer, offers: Sequence[_Offer]) -> bool:
        totals = [self.count_held_tokens(one.replica) for one in offers]
        mean = sum(totals) / len(totals)
        return self.count_held_tokens(offer.replica) > MAX_IMBALANCE * mean

    def _keep_session(self, session: str, replica: int) -> None:
        self._replica_by_session[session] = replica
        self._replica_by_session.move_to_end(session)
        if len(self._replica_by_session) > _MAX_SESSIONS:
            self._replica_by_session.popitem(last=False)


def _may_follow_prefix(offer: _Offer, offers: Sequence[_Offer]) -> bool:
    """Whether what it holds is a reason to give the replica this request too."""
    if _is_within_bound(offer, offers):
        return True
    shortest = min(one.queue for one in offers)
    return offer.queue - shortest <= offer.held.num_tokens and offer.queue <= LIGHT_QUEUE_TOKENS


def _is_within_bound(offer: _Offer, offers: Sequence[_Offer]) -> bool:
    """Whether the replica's queue is no longer than the mean allows when it has the request."""
    mean = (sum(one.queue for one in offers) + offer.num_new_tokens) / len(offers)
    return offer.queue + offer.num_new_tokens <= MAX_IMBALANCE * mean

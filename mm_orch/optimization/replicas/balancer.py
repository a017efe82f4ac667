"""Which replica of a model gets a request, and what each is believed to hold of past prompts."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.optimization.replicas.held_prefixes import HeldPrefixes
from mm_orch.optimization.replicas.offers import Offer, Offers, Rule
from mm_orch.optimization.replicas.policies import POLICIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_MAX_CONVERSATIONS = 10_000


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


class Balancer:
    """Chooses among the replicas of one model, and remembers what each holds.

    Memory is bounded: by the replicas' KV memory, and by a number of conversations.

    Args:
        policy: by what it chooses: a name of ``POLICIES``.
        seed: of what is left to chance.
    """

    def __init__(self, policy: str = "prefix", *, seed: int = 0) -> None:
        self._policy = POLICIES[policy](seed)
        self._held_by_replica: dict[int, HeldPrefixes] = {}
        self._identity_by_replica: dict[int, str] = {}
        # The least recently used first.
        self._replica_by_conversation: OrderedDict[str, int] = OrderedDict()

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
            self._replica_by_conversation = OrderedDict(
                (conversation, one)
                for conversation, one in self._replica_by_conversation.items()
                if one != replica
            )

    def forget_held(self, replica: int, since: int) -> None:
        """Note that a replica has lost what it used last for the prompt of this number, or before.

        Args:
            replica: that takes part.
            since: of ``Choice.held_since``.
        """
        self._held_by_replica[replica].forget(since)

    def forget_conversation(self, conversation: str) -> None:
        """Note that a conversation has ended."""
        self._replica_by_conversation.pop(conversation, None)

    def count_held_tokens(self, replica: int) -> int:
        """Tokens that a replica is believed to hold."""
        return self._held_by_replica[replica].num_tokens

    def choose(
        self,
        names: Sequence[int],
        *,
        num_tokens: int,
        conversation: str,
        queued_tokens: Mapping[int, int],
        opening: str = "",
        num_sequences: int = 1,
    ) -> Choice:
        """Choose a replica for a request, which is given to it at once.

        Args:
            names: the blocks of its prompt, of ``name_blocks``; none where nothing is reused.
            num_tokens: of each of its sequences, to be computed where nothing of it is held: of its
                prompt, and of its answer as many as are expected.
            conversation: its explicit name; empty for none.
            queued_tokens: tokens still to be computed, of each replica that takes requests now;
                they have all joined, and there is one at least.
            opening: says which conversation it is where ``conversation`` does not; empty where
                nothing does.
            num_sequences: that it brings.
        """
        offers = [
            Offer(
                replica=one,
                queue=queue,
                num_tokens=num_tokens,
                held=held.find(names),
                num_kept_tokens=held.num_tokens,
                identity=self._identity_by_replica.get(one, ""),
                num_sequences=num_sequences,
            )
            for one, queue in queued_tokens.items()
            for held in (self._held_by_replica[one],)
        ]
        if len(offers) == 1:
            chosen, rule = offers[0], Rule.ONLY
        else:
            own = self._replica_by_conversation.get(conversation)
            chosen, rule = self._policy.decide(
                Offers(offers, own, conversation=conversation, opening=opening)
            )
        memory = self._held_by_replica[chosen.replica]
        memory.add(names)
        if conversation:
            self._keep_conversation(conversation, chosen.replica)
        return Choice(
            replica=chosen.replica,
            num_held_tokens=chosen.held.num_tokens,
            rule=rule,
            held_since=chosen.held.used_at,
            number=memory.num_prompts,
        )

    def _keep_conversation(self, conversation: str, replica: int) -> None:
        self._replica_by_conversation[conversation] = replica
        self._replica_by_conversation.move_to_end(conversation)
        if len(self._replica_by_conversation) > _MAX_CONVERSATIONS:
            self._replica_by_conversation.popitem(last=False)

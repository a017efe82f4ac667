"""Which server of a fleet takes a request: chosen as among replicas, by what each is seen to do.

A server's memory cannot be looked into. What it was given is taken to be held up to a bound; a
server that fails holds nothing any more, and one that says of a prompt that it held far less than
was thought has lost that and all that was used before it.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.optimization.replicas.balancer import Balancer
from mm_orch.workers.queued_tokens import expect_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mm_orch.core.generation import GenerationOptions, Usage
    from mm_orch.optimization.replicas.balancer import Choice
    from mm_orch.remote.endpoint import Endpoint
    from mm_orch.remote.prompt_view import PromptView

# Of less it is not learned: servers reuse whole blocks, and templates begin alike.
_MIN_HELD_TOKENS = 256
# Text makes more tokens here and fewer there; a memory that was lost has nothing.
_MIN_TOLD_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where a request goes.

    Attributes:
        number: of the request, its own.
        choice: why, and what the server is thought to hold of the prompt.
        is_sure: what is thought to be held was given to the server by requests that have ended.
    """

    number: int
    endpoint: Endpoint
    prompt: PromptView
    choice: Choice
    is_sure: bool

    def advance(self, index: int, num_tokens: int) -> None:
        """Note that the server has generated so many tokens of one of the answers."""
        self.endpoint.queued.advance(self._name(index), num_tokens)

    @contextlib.contextmanager
    def queued(self, options: GenerationOptions) -> Iterator[None]:
        """Count what the server has to compute for the request for as long as this is entered."""
        held, endpoint = self.choice.num_held_tokens, self.endpoint
        names = [self._name(index) for index in range(options.num_choices)]
        for name in names:
            endpoint.queued.add(
                name,
                num_prompt_tokens=max(1, self.prompt.num_tokens - held),
                max_output_tokens=expect_tokens(options.max_tokens),
            )
        endpoint.num_requests += 1
        endpoint.prompts.add(self.choice.number)
        try:
            yield
        finally:
            for name in names:
                endpoint.queued.drop(name)
            endpoint.num_requests -= 1
            endpoint.prompts.discard(self.choice.number)

    def _name(self, index: int) -> str:
        return f"{self.number}/{index}"


class Placing:
    """Chooses among the servers of one fleet.

    Args:
        max_tokens: that each is thought to hold of prompts; 0 for nothing.
        policy: by what one is chosen; see ``replicas.policies``.
        seed: of the dice; servers in front that have the same one would choose alike.
    """

    def __init__(self, *, max_tokens: int, policy: str = "prefix", seed: int) -> None:
        self._max_tokens = max_tokens
        self._balancer = Balancer(policy, seed=seed)
        self._numbers = itertools.count()

    def choose(self, able: Sequence[Endpoint], prompt: PromptView) -> Placed:
        """Choose the server of a request that is given to it at once.

        Args:
            able: those that may take it, one at least.
            prompt: the request's.
        """
        for one in able:
            if not self._balancer.has(one.number):
                self._balancer.join(
                    one.number,
                    max_tokens=self._max_tokens,
                    # By what every server in front knows it.
                    identity=one.server.address.url,
                )
        choice = self._balancer.choose(
            prompt.names,
            num_tokens=prompt.num_tokens + prompt.num_answer_tokens,
            num_sequences=prompt.num_answers,
            conversation=prompt.conversation,
            queued_tokens={one.number: one.queued.total for one in able},
            opening=prompt.opening if self._max_tokens else "",
        )
        [endpoint] = [one for one in able if one.number == choice.replica]
        return Placed(
            number=next(self._numbers),
            endpoint=endpoint,
            prompt=prompt,
            choice=choice,
            is_sure=all(choice.held_since < number for number in endpoint.prompts),
        )

    def count_held_tokens(self, endpoint: Endpoint) -> int:
        """Return how many tokens of prompts a server is thought to hold."""
        if not self._balancer.has(endpoint.number):
            return 0
        return self._balancer.count_held_tokens(endpoint.number)

    def learn(self, placed: Placed, usage: Usage) -> None:
        """Take what a server says that it held of a prompt."""
        endpoint, choice = placed.endpoint, placed.choice
        endpoint.tells_cached = endpoint.tells_cached or usage.num_cached_tokens > 0
        is_telling = endpoint.tells_cached and usage.num_prompt_tokens > 0
        if not is_telling or not placed.is_sure or choice.num_held_tokens < _MIN_HELD_TOKENS:
            return
        thought = choice.num_held_tokens / placed.prompt.num_tokens
        told = usage.num_cached_tokens / usage.num_prompt_tokens
        if told < thought * _MIN_TOLD_SHARE and self._balancer.has(endpoint.number):
            self._balancer.forget_held(endpoint.number, choice.held_since)

    def forget(self, endpoint: Endpoint) -> None:
        """Take that a server holds nothing any more."""
        self._balancer.leave(endpoint.number)

    def forget_conversation(self, conversation: str) -> None:
        """Take that a conversation has ended."""
        self._balancer.forget_conversation(conversation)

"""The load that is planned for: how many requests, how long, how much alike."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.planning.fields import Field, parse_fields
from mm_orch.planning.simulation.work import Session, Turn

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_TOKENS = 10_000_000
_FIELDS = {
    "rate": Field(low=1e-4, high=1e6, unit="requests a second", default=1),
    "prompt": Field(low=1, high=_MAX_TOKENS, unit="tokens", is_whole=True, default=256),
    "output": Field(low=1, high=_MAX_TOKENS, unit="tokens", is_whole=True, default=128),
    "shared": Field(low=0, high=_MAX_TOKENS, unit="tokens", is_whole=True, default=0),
    "turns": Field(low=1, high=1000, unit="turns", is_whole=True, default=1),
    "think": Field(low=0, high=1e6, unit="seconds", default=10),
}
_SPREAD = (0.5, 1.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Sessions that come at random (a Poisson process).

    Attributes:
        rate_per_s: requests, all turns counted.
        num_prompt_tokens: new ones of a turn, on average: evenly from half to half as many again.
        num_output_tokens: of an answer, spread alike.
        num_shared_tokens: that all sessions begin with, before the first turn's own.
        num_turns: of each session.
        think_s: from an answer to the next turn.
    """

    rate_per_s: float
    num_prompt_tokens: int
    num_output_tokens: int
    num_shared_tokens: int = 0
    num_turns: int = 1
    think_s: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Traffic:
        """Read fields such as ``rate=5,prompt=500,output=200``; each has a default.

        Raises:
            InvalidValueError: naming the field, its value and what is allowed.
        """
        values = parse_fields("--traffic", text, _FIELDS)
        return cls(
            rate_per_s=values["rate"],
            num_prompt_tokens=int(values["prompt"]),
            num_output_tokens=int(values["output"]),
            num_shared_tokens=int(values["shared"]),
            num_turns=int(values["turns"]),
            think_s=values["think"],
        )

    @property
    def mean_prompt_tokens(self) -> float:
        """Tokens of a request's prompt, history and shared beginning among them."""
        per_turn = self.num_prompt_tokens + self.num_output_tokens
        history = per_turn * (self.num_turns - 1) / 2
        return self.num_shared_tokens + history + self.num_prompt_tokens

    @property
    def longest_tokens(self) -> int:
        """Prompt and answer of the longest request that may come."""
        per_turn = self.num_prompt_tokens + self.num_output_tokens
        return self.num_shared_tokens + int(_SPREAD[1] * per_turn + 1) * self.num_turns

    @property
    def words(self) -> str:
        """The load for people."""
        shared = (
            f", {self.num_shared_tokens} tokens shared by all" if self.num_shared_tokens else ""
        )
        turns = (
            f", conversations of {self.num_turns} turns, {self.think_s:g} s between them"
            if self.num_turns > 1
            else ""
        )
        return (
            f"{self.rate_per_s:g} requests/s, about {self.num_prompt_tokens} new prompt tokens and"
            f" {self.num_output_tokens} output tokens each{shared}{turns}"
        )

    @property
    def session_s(self) -> float:
        """Seconds that a session's users think, all turns together."""
        return (self.num_turns - 1) * self.think_s

    def draw(self, span_s: float, *, rate_per_s: float, seed: int) -> Iterator[Session]:
        """Yield the sessions that begin within a span, in order of arrival; at least one.

        Args:
            span_s: seconds.
            rate_per_s: requests a second, in place of the traffic's own.
            seed: of times and lengths.
        """
        dice = random.Random(seed)  # noqa: S311 - reproducible on purpose
        session_rate = rate_per_s / self.num_turns
        now_s = dice.expovariate(session_rate)
        has_begun = False
        while now_s < span_s or not has_begun:
            has_begun = True
            turns = tuple(
                Turn(
                    _draw_length(dice, self.num_prompt_tokens),
                    _draw_length(dice, self.num_output_tokens),
                    self.think_s,
                )
                for _ in range(self.num_turns)
            )
            group = 0 if self.num_shared_tokens else None
            yield Session(now_s, turns, group, self.num_shared_tokens)
            now_s += dice.expovariate(session_rate)


def _draw_length(dice: random.Random, mean: int) -> int:
    return max(1, round(mean * dice.uniform(*_SPREAD)))

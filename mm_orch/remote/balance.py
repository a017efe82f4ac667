"""Which of several servers takes a request: a pure choice by what each has under way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random


@dataclass(frozen=True, slots=True)
class Load:
    """What a server has been given and has not finished.

    Attributes:
        num_tokens: of prompts, and of answers as long as they may become; both are estimates.
    """

    num_requests: int
    num_tokens: int

    @property
    def rank(self) -> tuple[int, int]:
        """Orders loads: the lesser one is to be given the next request."""
        return self.num_tokens, self.num_requests


class Balancer(Protocol):
    """Chooses between servers."""

    def choose(self, loads: Sequence[Load]) -> int:
        """Return the index of the server that is to take the request; ``loads`` is not empty."""


class PowerOfTwo:
    """Draws two servers and takes the one with less to do (Mitzenmacher 1996).

    So the most loaded one gets nothing, and several servers in front, each of which knows of its
    own requests alone, do not all choose the same.
    """

    def __init__(self, random: Random) -> None:
        self._random = random

    def choose(self, loads: Sequence[Load]) -> int:
        """See Balancer."""
        drawn = self._random.sample(range(len(loads)), min(2, len(loads)))
        return min(drawn, key=lambda index: loads[index].rank)

"""What the policy of scaling reads, aims at and answers; values alone."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Goals:
    """What scaling is to keep.

    Attributes:
        target_wait_s: longest that requests are to wait until they begin.
        quiet_s: for so long fewer replicas must have been enough before there are fewer.
    """

    target_wait_s: float
    quiet_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One model during a window of time.

    Attributes:
        span_s: how long the window was.
        num_serving: replicas that take requests, at its end.
        num_wanted: replicas that there should be, at its end.
        num_waiting: requests that waited for their first step, on average over the window.
        num_waiting_now: those at its end.
        num_running: requests between their first step and their end, on average.
        num_begun: requests whose first step has run in it.
        num_arrived: requests that came in it and did not give up.
        num_tokens: that were computed in it, of prompts and answers.
        num_queued_tokens: that the replicas have still to compute, at its end.
        num_places: sequences that one replica works on at once.
        kv_use_ratio: share of the KV memory in use, 0 to 1, mean of the replicas; None where no
            engine says.
    """

    span_s: float
    num_serving: int
    num_wanted: int
    num_waiting: float = 0.0
    num_waiting_now: int = 0
    num_running: float = 0.0
    num_begun: int = 0
    num_arrived: int = 0
    num_tokens: int = 0
    num_queued_tokens: int = 0
    num_places: int = 1
    kv_use_ratio: float | None = None

    @property
    def num_present(self) -> float:
        """Requests that wait or run, on average."""
        return self.num_waiting + self.num_running

    @property
    def tokens_per_s(self) -> float:
        """Tokens computed per second, by all replicas."""
        return self.num_tokens / self.span_s

    @property
    def wait_s(self) -> float:
        """How long a request waits to begin at this pace; 0 where none has begun, and nobody knows.

        Little's law: those that wait are those that begin per second, times what each waits.
        """
        return self.num_waiting * self.span_s / self.num_begun if self.num_begun else 0.0


class Direction(enum.Enum):
    """Where a decision leads."""

    UP = "up"
    DOWN = "down"
    HELD = "held"
    """More are needed and there cannot be more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How many replicas there are to be from now on, and why.

    Attributes:
        count: as many as there were, where the direction is held.
        rationale: for people.
    """

    direction: Direction
    count: int
    rationale: str

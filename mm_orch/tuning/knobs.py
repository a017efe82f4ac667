"""The options that may be tuned, their bounds, and how far one step goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Setting = Mapping[str, int]
"""Values by key, of the options that are tuned."""

BATCH_SIZE = "optimization.batcher.max_batch_size"
BATCH_TOKENS = "optimization.batcher.max_batch_tokens"
BATCH_TIMEOUT = "optimization.batcher.batch_timeout_ms"
CACHE_SIZE = "optimization.cache.max_memory_mb"
QUEUE_CAPACITY = "monitoring.server.queue_capacity"
MIN_BATCH_SIZE = "optimization.batcher.min_batch_size"
"""Read, never changed: what ``batch_timeout_ms`` waits for, and what no batch may be below."""

MAX_FACTOR = 2
"""No step makes a value more than so many times greater or smaller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One option.

    Attributes:
        low: least value that is tried, as ``high`` is the greatest; an operator's own value may
            lie outside and is then only led back.
    """

    key: str
    low: int
    high: int

    @property
    def name(self) -> str:
        """The last part of its key, as metrics and messages name it."""
        return self.key.rpartition(".")[2]

    def above(self, value: int) -> int | None:
        """Return the next greater value, or None at the bound."""
        if value >= self.high:
            return None
        return min(self.high, max(1, value * MAX_FACTOR))

    def between(self, value: int, above: int) -> int | None:
        """Return the value in the middle of a step up, or None where there is none."""
        middle = (value + above) // 2
        return middle if middle > value else None

    def below(self, value: int) -> int | None:
        """Return the next smaller value, or None at the bound."""
        if value <= self.low:
            return None
        # One has no half that is a whole number, and zero is where a wait ends.
        return max(
            self.low, value // MAX_FACTOR if value % 2 == 0 or value == 1 else value // 2 + 1
        )


KNOBS = {
    knob.key: knob
    for knob in (
        Knob(key=BATCH_SIZE, low=1, high=256),
        Knob(key=BATCH_TOKENS, low=32, high=8192),
        Knob(key=BATCH_TIMEOUT, low=0, high=1000),
        Knob(key=CACHE_SIZE, low=64, high=16384),
        Knob(key=QUEUE_CAPACITY, low=1, high=1024),
    )
}


def describe_change(key: str, old: int, new: int) -> str:
    """Return a change in words, such as ``max_batch_size 8 -> 16``."""
    return f"{KNOBS[key].name} {old} -> {new}"

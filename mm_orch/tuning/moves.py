"""Which single steps might help, the likeliest first, judged by where the time goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.tuning.knobs import (
    BATCH_SIZE,
    BATCH_TIMEOUT,
    BATCH_TOKENS,
    CACHE_SIZE,
    KNOBS,
    QUEUE_CAPACITY,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mm_orch.tuning.knobs import Setting
    from mm_orch.tuning.readings import Reading

_NEARLY_FULL = 0.65
_QUEUE_SHARE = 0.4
_IDLE = 0.9
_LONG_PREFILL = 0.1
# Growing the cache is no cure for a machine that has no memory left.
_MAX_MEMORY_USE = 0.85
_MANY_IN_MEMORY = 0.8


@dataclass(frozen=True, slots=True)
class Move:
    """One step of one option, and the reason for trying it."""

    key: str
    direction: str
    reason: str

    @property
    def identity(self) -> tuple[str, str]:
        """What is remembered of it when it does not help."""
        return self.key, self.direction

    @property
    def opposite(self) -> tuple[str, str]:
        """The step back."""
        return self.key, "down" if self.direction == "up" else "up"

    def find_value(self, value: int) -> int | None:
        """Return where it leads from this value, or None at a bound."""
        knob = KNOBS[self.key]
        return knob.above(value) if self.direction == "up" else knob.below(value)


def find_moves(
    reading: Reading, setting: Setting, *, min_batch_size: int, is_over: bool
) -> Iterator[Move]:
    """Yield the steps worth trying while there is something to gain, the likeliest first.

    Args:
        reading: the last window.
        setting: what is in force.
        min_batch_size: what an idle engine waits for.
        is_over: whether p95 is over its target.
    """
    wait_s, latency_s = reading.queue_wait_p95_s or 0.0, reading.latency_p95_s or 0.0
    is_queued = wait_s >= _QUEUE_SHARE * latency_s
    if is_over and not is_queued:
        yield Move(BATCH_SIZE, "down", "most of the time is spent in steps, so with fewer in each")
        yield Move(BATCH_TOKENS, "down", "prompts beside them lengthen steps, so with less of them")
    if min_batch_size > 1 and reading.busy_ratio < _IDLE:
        yield Move(BATCH_TIMEOUT, "down", "requests wait while the engine is idle")
    is_full = reading.num_running >= _NEARLY_FULL * setting.get(BATCH_SIZE, 0)
    if is_full:
        yield Move(BATCH_SIZE, "up", "the batch is full while requests wait")
    if _wants_memory(reading):
        yield Move(CACHE_SIZE, "up", "the KV memory is full while requests wait")
    prefill_s = (reading.ttft_p95_s or 0.0) - wait_s
    if not is_full or prefill_s >= _LONG_PREFILL * latency_s:
        yield Move(BATCH_TOKENS, "up", "requests wait for their prompts to be taken in")
    if reading.num_rejected and not is_over:
        yield Move(QUEUE_CAPACITY, "up", "requests are refused")
    if is_over and is_queued:
        yield Move(QUEUE_CAPACITY, "down", "most of the time is spent waiting")
    if not is_over and reading.cache_hit_ratio is not None and _has_memory(reading):
        yield Move(CACHE_SIZE, "up", "more of what prompts share may stay in memory")
    if not is_over:
        yield Move(BATCH_TOKENS, "down", "prompts may hold up those that generate")
        yield Move(BATCH_SIZE, "down", "smaller batches may run faster")


def _wants_memory(reading: Reading) -> bool:
    return (reading.kv_use_ratio or 0.0) >= _MANY_IN_MEMORY and _has_memory(reading)


def _has_memory(reading: Reading) -> bool:
    return (reading.memory_use_ratio or 0.0) <= _MAX_MEMORY_USE

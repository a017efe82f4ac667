"""The tuner's policy on simulated engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.batching_simulator import BatchingSimulator, EngineConstants, Workload
from mm_orch.tuning.knobs import (
    BATCH_SIZE,
    BATCH_TIMEOUT,
    BATCH_TOKENS,
    CACHE_SIZE,
    KNOBS,
    QUEUE_CAPACITY,
)
from mm_orch.tuning.memory import TuningMemory
from mm_orch.tuning.objective import Objective
from mm_orch.tuning.policy import TuningPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mm_orch.tuning.decisions import Decision
    from mm_orch.tuning.readings import Reading

ENGINE = EngineConstants(
    fixed_s=0.00624, per_sequence_s=0.002722, per_prompt_token_s=0.0016755, noise_ratio=0.05
)
"""What benchmarks.step_times fitted to the real engine; a test compares them with its results."""
WORKLOAD = Workload(prompt_tokens=40, output_tokens=48)
WINDOW_S = 15.0
TARGET_S = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One window, what was decided after it, and the setting from then on."""

    reading: Reading
    decisions: tuple[Decision, ...]
    setting: dict[str, int]


def make_setting(
    batch_size: int = 32,
    batch_tokens: int = 2048,
    batch_timeout_ms: int = 50,
    cache_mb: int = 1024,
    queue_capacity: int = 100,
) -> dict[str, int]:
    return {
        BATCH_SIZE: batch_size,
        BATCH_TOKENS: batch_tokens,
        BATCH_TIMEOUT: batch_timeout_ms,
        CACHE_SIZE: cache_mb,
        QUEUE_CAPACITY: queue_capacity,
    }


def make_policy(
    target_s: float | None = TARGET_S, memory: TuningMemory | None = None
) -> TuningPolicy:
    return TuningPolicy(Objective(target_s), memory or TuningMemory())


def tune(
    policy: TuningPolicy,
    simulator: BatchingSimulator,
    load: Callable[[int], float],
    num_windows: int,
    *,
    refused: frozenset[str] = frozenset(),
    tunable: frozenset[str] = frozenset(KNOBS),
) -> list[Seen]:
    """Run so many windows, putting decisions in force as the loop does.

    ``load`` gives the arrivals per second in each window.
    """
    seen = []
    for index in range(num_windows):
        reading = simulator.run(WINDOW_S, load(index))
        decisions = policy.take(
            reading,
            dict(simulator.setting),
            tunable=tunable,
            min_batch_size=simulator.min_batch_size,
        )
        for decision in decisions:
            if refused & decision.changes.keys():
                policy.refuse(decision)
            else:
                simulator.setting.update(decision.changes)
        seen.append(Seen(reading=reading, decisions=decisions, setting=dict(simulator.setting)))
    return seen


def run_untuned(
    setting: Mapping[str, int], load: Callable[[int], float], num_windows: int
) -> list[Reading]:
    simulator = BatchingSimulator(ENGINE, WORKLOAD, setting, seed=1)
    return [simulator.run(WINDOW_S, load(index)) for index in range(num_windows)]


def goodput(readings: list[Reading], target_s: float) -> float:
    """Mean tokens a second, of windows within the target alone."""
    kept = [
        one.tokens_per_s
        for one in readings
        if one.latency_p95_s is not None and one.latency_p95_s <= target_s
    ]
    return sum(kept) / len(readings)


def longest_over(readings: list[Reading], target_s: float) -> int:
    """Most windows in a row over the target after it was first met."""
    has_met, longest, current = False, 0, 0
    for reading in readings:
        if reading.latency_p95_s is None:
            continue
        is_over = reading.latency_p95_s > target_s
        has_met = has_met or not is_over
        current = current + 1 if is_over and has_met else 0
        longest = max(longest, current)
    return longest

"""What tuning is for: most tokens a second, with the 95th percentile of latency in its bound."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.tuning.readings import Reading

MAX_P95_GROWTH = 0.10
"""Without a target: share by which the 95th percentile may grow for more throughput."""
_MIN_JUDGED = 5
_MAX_ERROR_GROWTH = 0.05
# Of requests that come. Fewer refusals, or fewer that wait, are chance and no want of throughput.
_MIN_REFUSED = 0.01
_MIN_WAITING = 1.0
_MIN_WAITING_OF_RUNNING = 0.25


@dataclass(frozen=True, slots=True)
class Objective:
    """Most throughput with p95 at or below ``target_s``; None is no target."""

    target_s: float | None

    def is_over(self, reading: Reading) -> bool:
        """Whether the window breaks the target; too few requests break nothing."""
        return (
            self.target_s is not None
            and reading.latency_p95_s is not None
            and reading.num_succeeded >= _MIN_JUDGED
            and reading.latency_p95_s > self.target_s
        )

    def is_met(self, reading: Reading) -> bool:
        """Whether enough requests show that the target is met."""
        return (
            self.target_s is not None
            and reading.latency_p95_s is not None
            and reading.num_succeeded >= _MIN_JUDGED
            and reading.latency_p95_s <= self.target_s
        )

    def has_something_to_gain(self, reading: Reading) -> bool:
        """Whether more throughput or less latency could serve anybody: else nothing is tried."""
        refused = reading.num_rejected / max(1, reading.num_arrived)
        least = max(_MIN_WAITING, _MIN_WAITING_OF_RUNNING * reading.num_running)
        return self.is_over(reading) or refused > _MIN_REFUSED or reading.num_waiting >= least

    def score(self, reading: Reading) -> float:
        """Return the window's worth in tokens per second, less where p95 is over the target.

        In proportion, so that far from the target each step towards it is seen to help.
        """
        if not self.is_over(reading) or self.target_s is None or reading.latency_p95_s is None:
            return reading.tokens_per_s
        return reading.tokens_per_s * self.target_s / reading.latency_p95_s

    def find_harm(self, before: Sequence[Reading], after: Sequence[Reading]) -> str:
        """Say what got worse that may not, of windows before and after a change; or nothing."""
        errors_before = statistics.median(one.error_ratio for one in before)
        errors_after = statistics.median(one.error_ratio for one in after)
        if errors_after > errors_before + _MAX_ERROR_GROWTH:
            return f"failures rose from {errors_before:.0%} to {errors_after:.0%}"
        if self.target_s is not None:
            return ""
        p95_before, p95_after = _median_p95(before), _median_p95(after)
        if p95_before is None or p95_after is None:
            return ""
        if p95_after > p95_before * (1 + MAX_P95_GROWTH):
            growth = p95_after / p95_before - 1
            return f"p95 grew by {growth:.0%}, more than the {MAX_P95_GROWTH:.0%} allowed"
        return ""


def _median_p95(readings: Sequence[Reading]) -> float | None:
    known = [one.latency_p95_s for one in readings if one.latency_p95_s is not None]
    return statistics.median(known) if known else None

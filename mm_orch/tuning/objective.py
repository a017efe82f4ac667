"""What tuning is for: most tokens a second, with the 95th percentile of latency in its bound."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.tuning.readings import Reading

MAX_P95_GROWTH = 0.10
"""Without a target: share by which the 95th percentile may grow for more throughput."""
_MIN_JUDGED = 5
_MAX_ERROR_GROWTH = 0.05
_MIN_RISING = 3
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

    def find_harm(
        self, before: Sequence[Reading], after: Sequence[Reading], *, num_between: int = 0
    ) -> str:
        """Say what got worse that may not, of windows before and after a change; or nothing.

        Args:
            before: windows, the oldest first.
            after: alike.
            num_between: windows between the two that do not count.
        """
        errors_before = statistics.median(one.error_ratio for one in before)
        errors_after = statistics.median(one.error_ratio for one in after)
        if errors_after > errors_before + _MAX_ERROR_GROWTH:
            return f"failures rose from {errors_before:.0%} to {errors_after:.0%}"
        if self.target_s is not None:
            return ""
        known = _known_p95s(before)
        p95s_after = _known_p95s(after)
        if not known or not p95s_after:
            return ""
        p95_before, p95_after = statistics.median(known), statistics.median(p95s_after)
        # A queue that fills goes on filling: what it would have come to is not the change's doing.
        expected = max(p95_before, _go_on_rising(known, num_between + (1 + len(p95s_after)) / 2))
        if p95_after > expected * (1 + MAX_P95_GROWTH):
            growth = p95_after / expected - 1
            return f"p95 grew by {growth:.0%}, more than the {MAX_P95_GROWTH:.0%} allowed"
        return ""


def _known_p95s(readings: Sequence[Reading]) -> list[float]:
    return [one.latency_p95_s for one in readings if one.latency_p95_s is not None]


def _go_on_rising(values: Sequence[float], num_later: float) -> float:
    """Return what values come to that rise from each to the next; 0 where they do not."""
    if len(values) < _MIN_RISING or any(later <= one for one, later in pairwise(values)):
        return 0.0
    return values[-1] + (values[-1] - values[0]) / (len(values) - 1) * num_later

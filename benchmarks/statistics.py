"""Ratios of paired measurements: median and a bootstrap interval."""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUM_RESAMPLES = 10_000
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of the pairs' ratios, and its bootstrap 95% interval."""

    median: float
    low: float
    high: float
    num_pairs: int

    def __str__(self) -> str:
        return f"{self.median:.2f} (95%: {self.low:.2f} to {self.high:.2f}, {self.num_pairs} pairs)"


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Compare measurements that were taken in pairs, ours over theirs."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    dice = random.Random(0)  # noqa: S311 - resampling, reproducible on purpose
    medians = sorted(
        statistics.median(dice.choices(ratios, k=len(ratios))) for _ in range(_NUM_RESAMPLES)
    )
    tail = (1 - _CONFIDENCE) / 2
    return Ratio(
        median=statistics.median(ratios),
        low=medians[int(tail * _NUM_RESAMPLES)],
        high=medians[int((1 - tail) * _NUM_RESAMPLES) - 1],
        num_pairs=len(ratios),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

"""Ratios of paired measurements: median and a bootstrap interval."""

from __future__ import annotations

import enum
import random
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NUM_RESAMPLES = 10_000
# Each of these sorts all that was measured.
_NUM_DRAWS = 1_000
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio, such as the median of the pairs', and its bootstrap 95% interval."""

    median: float
    low: float
    high: float
    num_pairs: int

    @property
    def rounded(self) -> list[float]:
        """Return ratio, low and high as results keep them."""
        return [round(value, 3) for value in (self.median, self.low, self.high)]

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


def show_ratio(rounded: Sequence[float]) -> str:
    """Write a ratio as results keep it, with its interval."""
    ratio, low, high = rounded
    return f"{ratio:g} ({low:g} to {high:g})"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def bootstrap(num_rounds: int, figure: Callable[[Sequence[int]], float]) -> Ratio:
    """Return a figure made of all rounds, with the interval that drawing other rounds gives.

    Args:
        num_rounds: rounds that were measured.
        figure: makes the figure of the rounds with these numbers, of which some come repeatedly.
    """
    dice = random.Random(0)  # noqa: S311 - resampling, reproducible on purpose
    rounds = range(num_rounds)
    figures = sorted(figure(dice.choices(rounds, k=num_rounds)) for _ in range(_NUM_DRAWS))
    tail = (1 - _CONFIDENCE) / 2
    return Ratio(
        median=figure(rounds),
        low=figures[int(tail * _NUM_DRAWS)],
        high=figures[int((1 - tail) * _NUM_DRAWS) - 1],
        num_pairs=num_rounds,
    )


class Verdict(enum.Enum):
    """What an interval says about a bar."""

    MET = "met"
    MISSED = "missed"
    NOT_SHOWN = "not shown"


def judge_value(value: float, bar: float) -> Verdict:
    """Say whether a figure without an interval is at or below the bar."""
    return Verdict.MET if value <= bar else Verdict.MISSED


def judge_at_most(ratio: Ratio, bar: float) -> Verdict:
    """Say whether the whole interval is at or below the bar, above it, or neither."""
    if ratio.high <= bar:
        return Verdict.MET
    return Verdict.MISSED if ratio.low > bar else Verdict.NOT_SHOWN


def judge_not_above(ratio: Ratio, bar: float) -> Verdict:
    """Say whether the ratio is shown to be above the bar: then it is missed, else met."""
    return Verdict.MISSED if ratio.low > bar else Verdict.MET


def judge_same(ratio: Ratio) -> Verdict:
    """Say whether the two are shown to differ, the interval excluding 1: then it is missed."""
    return Verdict.MET if ratio.low <= 1 <= ratio.high else Verdict.MISSED


def judge_at_least(ratio: Ratio, bar: float) -> Verdict:
    """Say whether the whole interval is at or above the bar, below it, or neither."""
    if ratio.low >= bar:
        return Verdict.MET
    return Verdict.MISSED if ratio.high < bar else Verdict.NOT_SHOWN


def judge_within(ratio: Ratio, tolerance: float) -> Verdict:
    """Say whether the whole interval is as near to 1 as the tolerance, farther away, or neither.

    A tolerance of 0.05 lets either be up to 5% more than the other.
    """
    low, high = 1 / (1 + tolerance), 1 + tolerance
    if low <= ratio.low and ratio.high <= high:
        return Verdict.MET
    is_outside = ratio.high < low or ratio.low > high
    return Verdict.MISSED if is_outside else Verdict.NOT_SHOWN

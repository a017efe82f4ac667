"""How fast something grows: one slope for several series, and the interval around it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from benchmarks.statistics import bootstrap

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.statistics import Ratio

# Samples near each other are alike, so whole stretches are drawn, not samples.
_NUM_BLOCKS = 20
_MIN_BLOCK_SAMPLES = 2


@dataclass(frozen=True, slots=True)
class Series:
    """What was measured of one process.

    Attributes:
        times_s: in order.
        values: one for each time.
    """

    times_s: tuple[float, ...]
    values: tuple[float, ...]

    @classmethod
    def of(cls, points: Iterable[tuple[float, float]]) -> Series:
        """Make one of times and values."""
        listed = list(points)
        return cls(tuple(time for time, _ in listed), tuple(value for _, value in listed))

    def since(self, begin_s: float) -> Series:
        """Return what was measured from this time on."""
        points = zip(self.times_s, self.values, strict=True)
        return Series.of((time_s, value) for time_s, value in points if time_s >= begin_s)


def fit_slope(series: Sequence[Series]) -> float:
    """Return the least-squares slope per second; each series has a level of its own.

    Raises:
        ValueError: no series has values of two times.
    """
    covariance = variance = 0.0
    for one in series:
        mean_s = sum(one.times_s) / max(1, len(one.times_s))
        mean = sum(one.values) / max(1, len(one.values))
        for time_s, value in zip(one.times_s, one.values, strict=True):
            covariance += (time_s - mean_s) * (value - mean)
            variance += (time_s - mean_s) ** 2
    if not variance:
        message = "a slope needs values of two times; measure for longer"
        raise ValueError(message)
    return covariance / variance


def estimate_slope(series: Sequence[Series], *, unit_s: float) -> Ratio:
    """Return the slope and its 95% interval, from drawing stretches of the series anew.

    Args:
        series: as for fit_slope.
        unit_s: the slope is per this many seconds.

    Raises:
        ValueError: there are too few values.
    """
    blocks = [
        (number, block) for number, one in enumerate(series) for block in _cut(one, len(series))
    ]
    if not blocks:
        message = "a slope needs values of two times; measure for longer"
        raise ValueError(message)

    def slope(drawn: Sequence[int]) -> float:
        points_by_number: dict[int, list[tuple[float, float]]] = {}
        for index in drawn:
            number, block = blocks[index]
            points = zip(block.times_s, block.values, strict=True)
            points_by_number.setdefault(number, []).extend(points)
        return unit_s * fit_slope([Series.of(points) for points in points_by_number.values()])

    return bootstrap(len(blocks), slope)


def _cut(one: Series, num_series: int) -> list[Series]:
    """Cut a series into its share of the stretches; one that is too short for any has none."""
    num_samples = len(one.times_s)
    num_blocks = min(max(2, _NUM_BLOCKS // num_series), num_samples // _MIN_BLOCK_SAMPLES)
    if not num_blocks:
        return []
    bounds = [number * num_samples // num_blocks for number in range(num_blocks + 1)]
    return [
        Series(one.times_s[begin:end], one.values[begin:end]) for begin, end in pairwise(bounds)
    ]

"""Which load there is: requests per second and requests at a time, in steps of a factor of two."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from mm_orch.tuning.readings import Reading

# Poisson arrivals in a short window stray this far by chance.
_SAME_FACTOR = 1.6
# Two requests at a time instead of one are not twice the load.
_FEW = 4.0
_LEAST_RATE = 1e-3


@dataclass(frozen=True, slots=True, order=True)
class LoadLevel:
    """Logarithms to base two, rounded: of arrivals per second, and of requests at a time."""

    rate: int
    concurrency: int

    def __str__(self) -> str:
        return f"about {2.0**self.rate:g} requests/s, {2**self.concurrency} at a time"


@dataclass(frozen=True, slots=True)
class Load:
    """Arrivals per second, and requests at a time."""

    rate: float
    concurrency: float

    @classmethod
    def of(cls, reading: Reading) -> Load:
        """Return the load of a window."""
        return cls(reading.arrivals_per_s, reading.concurrency)

    @classmethod
    def of_all(cls, readings: Collection[Reading]) -> Load:
        """Return the mean load of some windows."""
        return cls(
            statistics.fmean(one.arrivals_per_s for one in readings),
            statistics.fmean(one.concurrency for one in readings),
        )

    @property
    def level(self) -> LoadLevel:
        """Which level it is on."""
        return LoadLevel(
            round(math.log2(max(_LEAST_RATE, self.rate))),
            round(math.log2(max(1.0, self.concurrency))),
        )

    def is_same(self, other: Load) -> bool:
        """Whether it is the same load, whatever tuning itself does to it.

        A faster setting makes clients who wait for their answers send more; a slower one makes
        more requests be there at a time. So the load has changed only when both figures have.
        """
        ratios = (
            (self.rate + _LEAST_RATE) / (other.rate + _LEAST_RATE),
            (self.concurrency + _FEW) / (other.concurrency + _FEW),
        )
        return any(_are_alike(ratio) for ratio in ratios)

    def is_near(self, other: Load) -> bool:
        """Whether as many requests come, for settings that are the same."""
        return _are_alike((self.rate + _LEAST_RATE) / (other.rate + _LEAST_RATE))


def _are_alike(ratio: float) -> bool:
    return 1 / _SAME_FACTOR <= ratio <= _SAME_FACTOR

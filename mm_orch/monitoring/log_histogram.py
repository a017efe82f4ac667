"""How durations are spread, in bounded memory and with a bounded relative error.

Source: Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable quantile sketch with
relative-error guarantees", VLDB 2019.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mm_orch.core.figures import Distribution

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_S = 1e-6
MAX_S = 1e5
RELATIVE_ERROR = 0.01

# Bucket i holds the values in (GAMMA**(i - 1), GAMMA**i]; its middle, in the sense of the least
# relative error, stands for all of them.
_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_BUCKETS_PER_LOG = 1 / math.log(_GAMMA)
_MIDDLE = 2 / (1 + _GAMMA)


class LogHistogram:
    """Counts values in buckets whose bounds grow by 2%: each quantile is right to 1%.

    Values are clamped to a microsecond and 100,000 seconds, so there are at most 1,268 buckets;
    only those in use take memory. Minimum, maximum, sum and count are exact, of the clamped values.
    """

    __slots__ = ("_num_by_bucket", "count", "max", "min", "sum")

    def __init__(self) -> None:
        self._num_by_bucket: dict[int, int] = {}
        self.count = 0
        self.sum = 0.0
        self.min = math.inf
        self.max = -math.inf

    def add(self, value: float, count: int = 1) -> None:
        """Count a value so many times; what is no number counts as the least."""
        if not value >= MIN_S:
            value = MIN_S
        elif value > MAX_S:
            value = MAX_S
        bucket = math.ceil(math.log(value) * _BUCKETS_PER_LOG)
        num_by_bucket = self._num_by_bucket
        num_by_bucket[bucket] = num_by_bucket.get(bucket, 0) + count
        self.count += count
        self.sum += value * count
        # The calls of min and max would cost as much as all the rest.
        if value < self.min:  # noqa: PLR1730
            self.min = value
        if value > self.max:  # noqa: PLR1730
            self.max = value

    def merge(self, other: LogHistogram) -> None:
        """Count all that the other one has counted."""
        num_by_bucket = self._num_by_bucket
        for bucket, count in other._num_by_bucket.items():
            num_by_bucket[bucket] = num_by_bucket.get(bucket, 0) + count
        self.count += other.count
        self.sum += other.sum
        self.min = min(self.min, other.min)
        self.max = max(self.max, other.max)

    def quantile(self, share: float) -> float | None:
        """Return the value that this share (0 to 1) of all values does not exceed, or None."""
        return self.quantiles((share,))[0] if self.count else None

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """Return the quantiles of ascending shares, each the value of nearest rank within 1%.

        Raises:
            ValueError: nothing has been counted, or a share is not between 0 and 1.
        """
        if not self.count or not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"no quantiles {shares} of {self.count} values; need 0 to 1 of some")
        found: list[float] = []
        buckets = iter(sorted(self._num_by_bucket.items()))
        bucket, num_passed = 0, 0
        for share in shares:
            rank = max(1, math.ceil(share * self.count))
            while num_passed < rank:
                bucket, count = next(buckets)
                num_passed += count
            found.append(min(self.max, max(self.min, _MIDDLE * _GAMMA**bucket)))
        return found

    def describe(self) -> Distribution | None:
        """Return the figures that people and alerts look at, or None of nothing."""
        if not self.count:
            return None
        p50, p95, p99 = self.quantiles((0.5, 0.95, 0.99))
        return Distribution(
            count=self.count,
            # Rounding may carry the mean of equal values out of their range.
            mean=min(self.max, max(self.min, self.sum / self.count)),
            min=self.min,
            max=self.max,
            p50=p50,
            p95=p95,
            p99=p99,
        )

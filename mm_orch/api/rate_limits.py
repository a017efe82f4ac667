"""How many requests a minute each caller may send: a token bucket each."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mm_orch.core.clock import Clock

_MINUTE_S = 60.0
# Of addresses there is no end. Whoever has not called for a minute has a full bucket again, so that
# forgetting the ones that called longest ago seldom gives anybody anything.
_MAX_BUCKETS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What a caller has left after a request.

    Attributes:
        limit: requests a minute.
        remaining: that it may send at once now.
        reset_s: seconds until it may send ``limit`` at once again.
        retry_after_s: seconds until the next is allowed, where this one is not; else None.
    """

    limit: int
    remaining: int
    reset_s: float
    retry_after_s: float | None = None


@dataclass(slots=True)
class _Bucket:
    level: float
    filled_at_s: float


class RateLimits:
    """The buckets: each holds a minute's requests, and fills as fast as these are allowed.

    Args:
        limit: requests a minute of each caller, or None for any number.
        limit_by_caller: of those that have one of their own.
        clock: seconds.
        max_buckets: callers that are remembered.
    """

    def __init__(
        self,
        limit: int | None,
        limit_by_caller: Mapping[str, int],
        clock: Clock,
        *,
        max_buckets: int = _MAX_BUCKETS,
    ) -> None:
        self._limit = limit
        self._limit_by_caller = dict(limit_by_caller)
        self._clock = clock
        self._max_buckets = max_buckets
        # Who called last is last.
        self._bucket_by_caller: OrderedDict[str, _Bucket] = OrderedDict()

    def find_limit(self, caller: str) -> int | None:
        """Return how many requests a minute a caller may send; None for any number."""
        return self._limit_by_caller.get(caller, self._limit)

    async def take_now(self, caller: str) -> Allowance | None:
        """Do as :meth:`take`, for whoever may have to wait for the answer elsewhere."""
        return self.take(caller)

    def take(self, caller: str) -> Allowance | None:
        """Count a request of this caller; None where it has no limit."""
        limit = self.find_limit(caller)
        if limit is None:
            return None
        now_s = self._clock()
        bucket = self._bucket_by_caller.setdefault(caller, _Bucket(limit, now_s))
        self._bucket_by_caller.move_to_end(caller)
        if len(self._bucket_by_caller) > self._max_buckets:
            self._bucket_by_caller.popitem(last=False)
        bucket.level = min(limit, bucket.level + (now_s - bucket.filled_at_s) * per_second(limit))
        bucket.filled_at_s = now_s
        is_allowed = bucket.level >= 1
        if is_allowed:
            bucket.level -= 1
        return make_allowance(limit, bucket.level, is_allowed=is_allowed)


def per_second(limit: int) -> float:
    """Return how fast the bucket of so many requests a minute fills."""
    return limit / _MINUTE_S


def make_allowance(limit: int, level: float, *, is_allowed: bool) -> Allowance:
    """Return what a caller is told: of a bucket of this size, with so much in it now."""
    return Allowance(
        limit=limit,
        remaining=int(level),
        reset_s=(limit - level) / per_second(limit),
        retry_after_s=None if is_allowed else (1 - level) / per_second(limit),
    )

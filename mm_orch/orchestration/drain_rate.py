"""How fast requests leave, measured over the last ones, and what that means for a newcomer."""

from __future__ import annotations

from collections import deque

_NUM_KEPT = 64
_WINDOW_S = 60.0
_MIN_RETRY_S = 1.0
# The official OpenAI client obeys Retry-After up to 120 s and gives up above it.
_MAX_RETRY_S = 120.0


class DrainRate:
    """A sliding window over the moments at which admitted requests ended."""

    def __init__(self) -> None:
        self._ends_s: deque[float] = deque(maxlen=_NUM_KEPT)

    def record_end(self, now_s: float) -> None:
        """Count a request that has left, however it ended."""
        self._ends_s.append(now_s)

    def find_rate(self, now_s: float) -> float | None:
        """Return requests per second over the last minute at most, or None before two ends.

        The time since the last end counts, so a stalled system's rate falls.
        """
        while self._ends_s and now_s - self._ends_s[0] > _WINDOW_S:
            self._ends_s.popleft()
        if len(self._ends_s) < 2:  # noqa: PLR2004 - a rate needs an interval
            return None
        span_s = now_s - self._ends_s[0]
        return (len(self._ends_s) - 1) / span_s if span_s > 0 else None

    def retry_after_s(self, now_s: float, *, num_ahead: int, oldest_start_s: float | None) -> float:
        """Estimate when a place will be free, between 1 and 120 seconds.

        Args:
            now_s: the clock.
            num_ahead: requests that must leave before a newcomer would be taken in.
            oldest_start_s: when the oldest unfinished request was admitted. Before any rate is
                known, its age is a lower bound of what one request takes.
        """
        rate = self.find_rate(now_s)
        if rate is not None:
            estimate_s = num_ahead / rate
        elif oldest_start_s is not None:
            estimate_s = now_s - oldest_start_s
        else:
            estimate_s = _MIN_RETRY_S
        return min(_MAX_RETRY_S, max(_MIN_RETRY_S, estimate_s))

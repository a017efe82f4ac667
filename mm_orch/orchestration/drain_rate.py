"""How fast requests leave, measured over the last ones, and what that means for a newcomer."""

from __future__ import annotations

from collections import deque

_NUM_KEPT = 64
# Fewer ends say too little to refuse anybody for.
_MIN_FOUNDED = 8
_WINDOW_S = 60.0
_MIN_RETRY_S = 1.0
# The official OpenAI client obeys Retry-After up to 120 s and gives up above it.
_MAX_RETRY_S = 120.0


class DrainRate:
    """A sliding window over the moments at which admitted requests ended."""

    def __init__(self) -> None:
        self._ends_s: deque[float] = deque(maxlen=_NUM_KEPT)

    @property
    def is_founded(self) -> bool:
        """Whether enough requests have left to build on the rate."""
        return len(self._ends_s) >= _MIN_FOUNDED

    def record_end(self, now_s: float) -> None:
        """Count a request that has left, however it ended."""
        self._ends_s.append(now_s)

    def clear(self) -> None:
        """Begin to measure anew."""
        self._ends_s.clear()

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


class ModelDrain:
    """How fast the requests of one model leave: all along, and while others wait for them.

    Only the second says what the model can do; the first also counts the time in which it had
    nothing to do.
    """

    def __init__(self) -> None:
        self._all = DrainRate()
        self._backlog = DrainRate()

    def record_end(self, now_s: float, *, num_waiting: int) -> None:
        """Count a request that has left while so many waited."""
        self._all.record_end(now_s)
        if num_waiting:
            self._backlog.record_end(now_s)

    def end_backlog(self) -> None:
        """Note that nobody waits any more."""
        self._backlog.clear()

    def find_rate(self, now_s: float) -> float | None:
        """Requests per second, while others wait where that is known."""
        rate = self._backlog.find_rate(now_s)
        return self._all.find_rate(now_s) if rate is None else rate

    def find_founded_rate(self, now_s: float) -> float | None:
        """The rate while others wait, or None where too few have left since that began."""
        rate = self._backlog.find_rate(now_s)
        return rate if self._backlog.is_founded else None


def bound_retry_s(estimate_s: float) -> float:
    """Return what a client is told: between 1 and 120 seconds."""
    return min(_MAX_RETRY_S, max(_MIN_RETRY_S, estimate_s))

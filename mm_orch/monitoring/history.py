"""A point every few seconds of what the charts show, for the last half hour."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from mm_orch.core.events import (
    FirstTokenProduced,
    LoadChanged,
    RequestFinished,
    RequestStatus,
    ResourcesRead,
    StepCompleted,
    TokenGap,
)
from mm_orch.core.figures import UNKNOWN, HistoryFigures, HistoryPoint, IntervalFigures
from mm_orch.monitoring.log_histogram import LogHistogram
from mm_orch.monitoring.request_window import ratio

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Event

INTERVAL_S = 5.0
NUM_POINTS = 360
# A chart shows no more, and half an hour of it is sent at once.
_DIGITS = 4


class History:
    """An observer with a ring of points, one an interval, of each model and of all together.

    Time is divided into equal intervals from the beginning on. An interval is closed by the first
    event after its end, or by :meth:`tick`: so each event is counted in its own interval, and
    after a pause the intervals in which nothing came are there and empty.

    Args:
        models: the configured names; any other is counted as unknown.
        interval_s: between points.
        num_points: most that are kept.
        clock: monotonic seconds.
        wall_clock: seconds since 1970; where it is set back, points go on as if it were not.
    """

    def __init__(
        self,
        models: Iterable[str],
        *,
        interval_s: float = INTERVAL_S,
        num_points: int = NUM_POINTS,
        clock: Clock = time.monotonic,
        wall_clock: Clock = time.time,
    ) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._wall_clock = wall_clock
        self._points: deque[HistoryPoint] = deque(maxlen=num_points)
        self._num_points = num_points
        self._now_by_model = {name: _Interval() for name in (*models, UNKNOWN)}
        self._resources: ResourcesRead | None = None
        self._offset_s = wall_clock() - clock()
        self._end_s = clock() + interval_s

    def observe(self, event: Event) -> None:
        """Take one fact."""
        if self._clock() >= self._end_s:
            self.tick()
        match event:
            case TokenGap():
                self._of(event.model).num_tokens += event.num_tokens
            case StepCompleted():
                now = self._of(event.model)
                now.num_steps += 1
                now.num_batched += event.batch_size
            case LoadChanged():
                now = self._of(event.model)
                now.num_running, now.num_waiting = event.num_running, event.num_waiting
            case FirstTokenProduced():
                now = self._of(event.model)
                now.num_tokens += 1
                now.ttft.add(event.ttft_s)
            case RequestFinished():
                self._of(event.model).count_end(event)
            case ResourcesRead():
                self._resources = event
            case _:
                pass

    def tick(self) -> None:
        """Close the intervals that have ended; to be called about once an interval."""
        late_s = self._clock() - self._end_s
        if late_s < 0:
            return
        # INVARIANT: each point's `at` is greater than the one before it, as readers ask for what
        # comes after their last. So a wall clock that is set back is not followed; one that is
        # ahead is: the monotonic one stands still while the computer sleeps.
        self._offset_s = max(self._offset_s, self._wall_clock() - self._clock())
        end_at = self._offset_s + self._end_s
        num_ended = 1 + int(late_s / self._interval_s)
        self._close(end_at)
        # Of a pause longer than the ring, only the last points would stay.
        for k in range(max(1, num_ended - self._num_points), num_ended):
            self._close(end_at + k * self._interval_s)
        self._end_s += num_ended * self._interval_s

    def read(self, after: float | None = None) -> HistoryFigures:
        """Return the points up to now, oldest first.

        Args:
            after: only those whose ``at`` is greater, for a reader that has the others: all of
                them are about 100 kB for each busy model.
        """
        self.tick()
        points = (point for point in self._points if after is None or point.at > after)
        return HistoryFigures(interval_seconds=self._interval_s, points=tuple(points))

    def _of(self, model: str) -> _Interval:
        return self._now_by_model.get(model) or self._now_by_model[UNKNOWN]

    def _close(self, end_at: float) -> None:
        total = _Interval()
        for now in self._now_by_model.values():
            total.merge(now)
        resources = self._resources
        self._points.append(
            HistoryPoint(
                at=round(end_at, 3),
                total=total.describe(self._interval_s),
                models={
                    name: now.describe(self._interval_s)
                    for name, now in self._now_by_model.items()
                    if not now.is_idle
                },
                cpu_percent=resources.cpu_percent if resources else None,
                memory_used_bytes=resources.memory_used_bytes if resources else None,
            )
        )
        for now in self._now_by_model.values():
            now.begin()


class _Interval:
    """What has come since the last point; what runs and waits stays from one to the next."""

    def __init__(self) -> None:
        self.num_running = 0
        self.num_waiting = 0
        self.begin()

    def begin(self) -> None:
        self.num_succeeded = 0
        self.num_failed = 0
        self.num_tokens = 0
        self.num_steps = 0
        self.num_batched = 0
        self.num_prompt_tokens = 0
        self.num_cached_tokens = 0
        self.ttft = LogHistogram()

    @property
    def is_idle(self) -> bool:
        return not (
            self.num_running
            or self.num_waiting
            or self.num_succeeded
            or self.num_failed
            or self.num_tokens
            or self.num_steps
            or self.num_prompt_tokens
        )

    def count_end(self, event: RequestFinished) -> None:
        # What was refused at the door had no cache to look in.
        if event.engine != UNKNOWN:
            self.num_prompt_tokens += event.num_prompt_tokens
            self.num_cached_tokens += event.num_cached_tokens
        if event.status is RequestStatus.SUCCESS:
            self.num_succeeded += 1
        elif event.status in {RequestStatus.ERROR, RequestStatus.TIMEOUT}:
            self.num_failed += 1

    def merge(self, other: _Interval) -> None:
        self.num_running += other.num_running
        self.num_waiting += other.num_waiting
        self.num_succeeded += other.num_succeeded
        self.num_failed += other.num_failed
        self.num_tokens += other.num_tokens
        self.num_steps += other.num_steps
        self.num_batched += other.num_batched
        self.num_prompt_tokens += other.num_prompt_tokens
        self.num_cached_tokens += other.num_cached_tokens
        self.ttft.merge(other.ttft)

    def describe(self, span_s: float) -> IntervalFigures:
        return IntervalFigures(
            requests_per_second=round(self.num_succeeded / span_s, _DIGITS),
            failures_per_second=round(self.num_failed / span_s, _DIGITS),
            tokens_per_second=round(self.num_tokens / span_s, _DIGITS),
            time_to_first_token_p50=_rounded(self.ttft.quantile(0.5)),
            time_to_first_token_p95=_rounded(self.ttft.quantile(0.95)),
            batch_size_mean=_rounded(ratio(self.num_batched, self.num_steps)),
            cache_hit_ratio=_rounded(ratio(self.num_cached_tokens, self.num_prompt_tokens)),
            requests_running=self.num_running,
            requests_waiting=self.num_waiting,
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)

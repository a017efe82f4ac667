"""The series of HTTP exchanges, by route, method and status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.monitoring.sliding_rate import SlidingRate

if TYPE_CHECKING:
    from mm_orch.core.clock import Clock
    from mm_orch.core.events import HttpRequestFinished
    from mm_orch.monitoring.series import Series


class HttpSeries:
    """Counts exchanges, and keeps how many there are per second.

    Args:
        series: those that it fills.
        clock: monotonic seconds, for the gauges per second.
    """

    def __init__(self, series: Series, clock: Clock) -> None:
        self._series = series
        self._clock = clock
        self._begin_s = clock()
        self._rates: dict[tuple[str, str, str], SlidingRate] = {}

    def observe(self, event: HttpRequestFinished) -> None:
        """Count an exchange that has ended."""
        series = self._series
        labels = (event.route, event.method, str(event.status))
        series.http_requests.labels(*labels).inc()
        series.http_duration.labels(*labels).observe(event.duration_s)
        rate = self._rates.get(labels)
        if rate is None:
            # With an age of its own, the first exchange would be one per second.
            rate = self._rates[labels] = SlidingRate(self._clock, begin_s=self._begin_s)
            series.http_per_second.labels(*labels).set_function(rate.per_second)
        rate.add(1)

"""What series say before there has been much to say."""

from __future__ import annotations

import pytest

from mm_orch.core.events import HttpRequestFinished, ResourcesRead
from mm_orch.monitoring.prometheus import PrometheusObserver
from tests.unit.monitoring.clock import StillClock
from tests.unit.monitoring.scripted_events import MODEL
from tests.unit.monitoring.test_prometheus import samples_of, value_of


def test_the_processors_have_no_sample_until_their_use_is_known() -> None:
    observer = PrometheusObserver([MODEL], clock=StillClock())
    seen: list[list[float]] = []
    for cpu_percent in (None, 40.0, None):
        observer.observe(
            ResourcesRead(cpu_percent=cpu_percent, memory_used_bytes=1, memory_total_bytes=2)
        )
        seen.append([s.value for s in samples_of(observer) if s.name == "cpu_usage_percent"])

    assert seen == [[], [40], [40]]


def test_one_exchange_of_a_route_is_not_one_per_second() -> None:
    clock = StillClock()
    observer = PrometheusObserver([MODEL], clock=clock)
    clock.now_s += 30
    observer.observe(HttpRequestFinished(route="/live", method="GET", status=200, duration_s=0.1))
    labels = {"route": "/live", "method": "GET", "status": "200"}

    young = value_of(observer, "http_requests_per_second", **labels)
    clock.now_s += 20

    assert young == pytest.approx(1 / 30)
    assert value_of(observer, "http_requests_per_second", **labels) == pytest.approx(1 / 50)

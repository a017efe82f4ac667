"""An alert of the adaptive kind, from the requests' events to a real webhook and Alertmanager."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.config import load_config
from mm_orch.core.events import AlertChanged, ResourcesRead
from mm_orch.monitoring.alert_figures import AlertFigures
from mm_orch.monitoring.alerts.alert import ANOMALY
from mm_orch.monitoring.alerts.assembly import describe, make_watch
from mm_orch.monitoring.performance import PerformanceMonitor
from mm_orch.monitoring.trends import ResourceTrends
from tests.alert_receiver import Receiver
from tests.alertmanager import run_alertmanager
from tests.recorder import Recorder
from tests.unit.monitoring.alerts.background import running
from tests.unit.monitoring.clock import StillClock
from tests.unit.monitoring.scripted_events import ENGINE, MODEL, finished

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.alertmanager import Alertmanager

INTERVAL_S = 10
NUM_REQUESTS = 10
"""In an interval."""
USUAL_S = 0.4
_MEMORY_BYTES = 16 << 30


class Service:
    """What watches a server, but for its timer: requests' events in, alerts out.

    Args:
        settings: of the section ``monitoring.anomaly``, over the defaults.
    """

    def __init__(self, **settings: object) -> None:
        overrides = {f"monitoring.anomaly.{name}": value for name, value in settings.items()}
        config = load_config(path=None, environ={}, overrides=overrides).config
        self.clock = StillClock()
        self._heard = Recorder()
        self._drawn = random.Random(0)  # noqa: S311 - the same requests in every run
        self._performance = PerformanceMonitor([MODEL], clock=self.clock)
        self._trends = ResourceTrends(clock=self.clock)
        figures = AlertFigures(
            [MODEL],
            performance=self._performance,
            trends=self._trends,
            clock=self.clock,
        )
        self.watch = make_watch(
            config.monitoring.anomaly,
            figures.read,
            service="muai-orchestration",
            observer=self._heard,
            clock=self.clock,
        )

    def run(self, minutes: float, factor: float = 1.0, num_requests: int = NUM_REQUESTS) -> None:
        """Answer so many requests an interval for so long, so many times as slowly as usual."""
        for _ in range(int(minutes * 60 / INTERVAL_S)):
            for _ in range(num_requests):
                total_s = USUAL_S * factor * self._drawn.uniform(0.9, 1.1)
                self._performance.observe(replace(finished(), total_s=total_s))
            self._trends.observe(
                ResourcesRead(
                    cpu_percent=self._drawn.uniform(0, 100),
                    memory_used_bytes=int(self._drawn.uniform(0.3, 0.6) * _MEMORY_BYTES),
                    memory_total_bytes=_MEMORY_BYTES,
                )
            )
            self.watch.evaluate()
            self.clock.now_s += INTERVAL_S

    def severities(self) -> list[str]:
        """Those that were told of, in order."""
        return [one.severity for one in self._heard.of(AlertChanged) if one.is_new]


@dataclass(frozen=True, slots=True)
class Heard:
    """What has reached those who are told."""

    hook: Receiver
    manager: Alertmanager

    async def told(self, num_bodies: int) -> list[Any]:
        """Wait until the webhook has so many, and return all."""
        async with asyncio.timeout(60):
            while len(found := self.hook.bodies_to("/own")) < num_bodies:
                await self.hook.wait_for(len(self.hook.bodies) + 1)
        return found

    async def listed(self, *severities: str) -> list[dict[str, str]]:
        """Wait until Alertmanager has alerts of these severities, and return their labels."""
        return await asyncio.to_thread(
            self.manager.wait_until,
            lambda labels: [one["severity"] for one in labels] == list(severities),
        )


@asynccontextmanager
async def watching(directory: Path) -> AsyncIterator[tuple[Service, Heard]]:
    """A service with both destinations, and what they hear."""
    async with Receiver().serve() as hook:
        with run_alertmanager(directory, webhook_url=f"{hook.url}/manager") as manager:
            service = Service(
                alert_destinations=("webhook", "alertmanager"),
                webhook_url=f"{hook.url}/own",
                alertmanager_url=manager.url,
                latency_threshold_ms=100_000.0,
                alert_rate_limit_seconds=10**6,
            )
            async with running(service.watch.run()):
                yield service, Heard(hook, manager)


@pytest.mark.parametrize("num_requests", [0, 1, 3])
def test_an_hour_of_little_or_nothing_tells_nothing(num_requests: int) -> None:
    service = Service()

    service.run(minutes=60, num_requests=num_requests)

    assert service.severities() == []
    assert describe(service.watch).firing == ()


async def test_a_sudden_departure_that_no_threshold_sees_is_told_grows_worse_and_ends(
    tmp_path: Path,
) -> None:
    """Runs the server's own parts, without its process, on a clock of the test's.

    What is usual is learned from a reading a minute, fifteen at least: longer than a test may wait
    for a server.
    """
    async with watching(tmp_path) as (service, heard):
        service.run(minutes=60)
        assert service.severities() == []

        # A departure that lasts is one alert.
        service.run(minutes=3, factor=2.5)
        [body] = await heard.told(1)
        assert (body["alert_type"], body["status"]) == (ANOMALY, "firing")
        assert body["severity"] == "warning"
        assert (body["metadata"]["model"], body["metadata"]["engine"]) == (MODEL, ENGINE)
        [labels] = await heard.listed("warning")
        assert (labels["alertname"], labels["model"]) == (ANOMALY, MODEL)
        [firing] = describe(service.watch).firing
        assert (firing.alert_type, firing.severity) == (ANOMALY, "warning")

        service.run(minutes=3, factor=8)
        told = service.severities()
        assert told in (["warning", "critical"], ["warning", "error", "critical"])
        await heard.told(len(told))
        await heard.listed("critical")

        service.run(minutes=7)
        *earlier, last = await heard.told(len(told) + 1)
        assert last["status"] == "resolved"
        assert [one["severity"] for one in earlier] == told
        await heard.listed()
        assert describe(service.watch).firing == ()

    assert len(heard.hook.bodies_to("/own")) == len(told) + 1

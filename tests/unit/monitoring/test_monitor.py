from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from mm_orch.config import load_config
from mm_orch.core.errors import NotServedError
from mm_orch.core.events import AlertChanged, ErrorOccurred, ResourcesRead
from mm_orch.core.observers import ObserverFanOut
from mm_orch.gpus.watch import GpuWatch
from mm_orch.monitoring.monitor import Monitor
from tests.unit.monitoring.clock import StillClock
from tests.unit.monitoring.scripted_events import MODEL, story

if TYPE_CHECKING:
    from mm_orch.config.schema.monitoring import MonitoringSettings
    from mm_orch.core.events import Event

ROOT = Path(__file__).parents[3]
Kind = TypeVar("Kind")


class Heard:
    """An observer that wakes who waits for an event of a kind."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()

    def observe(self, event: Event) -> None:
        self.events.put_nowait(event)

    async def next(self, kind: type[Kind]) -> Kind:
        while True:
            event = await self.events.get()
            if isinstance(event, kind):
                return event


def settings(**keys: object) -> MonitoringSettings:
    overrides = {f"monitoring.{name.replace('__', '.')}": value for name, value in keys.items()}
    loaded = load_config(path=None, environ={}, overrides=overrides)
    return loaded.config.monitoring


def watch(**keys: object) -> tuple[Monitor, ObserverFanOut, Heard]:
    observer, heard = ObserverFanOut(), Heard()
    monitor = Monitor(settings(**keys), (MODEL,), observer=observer, gpus=GpuWatch(lambda: None))
    observer.add((*monitor.observers, heard))
    return monitor, observer, heard


async def test_what_the_path_tells_is_in_every_answer() -> None:
    monitor, observer, heard = watch()
    async with monitor.running():
        await heard.next(ResourcesRead)
        for event in story():
            observer.observe(event)

        figures = monitor.metrics()
        assert {one.model for one in figures.models} == {MODEL}
        assert figures.resources.memory_total_bytes
        assert [one.request_id for one in monitor.requests(9).requests] == ["r1", "r1"]
        assert monitor.render_metrics is not None
        assert b"inference_requests_total" in monitor.render_metrics("")[0]


async def test_memory_over_its_limit_is_an_alert_that_the_answers_show() -> None:
    monitor, observer, heard = watch(
        anomaly__memory_threshold_percent=50.0, anomaly__evaluation_interval_seconds=1
    )
    async with monitor.running():
        await heard.next(ResourcesRead)
        observer.observe(ResourcesRead(cpu_percent=1.0, memory_used_bytes=9, memory_total_bytes=10))

        alert = await heard.next(AlertChanged)

        assert (alert.alert_type, alert.severity, alert.is_new) == ("high_memory", "critical", True)
        assert [one.alert_type for one in monitor.firing() or ()] == ["high_memory"]
        assert [one.status for one in monitor.alerts().history] == ["firing"]
        assert [one.name for one in monitor.alerts().destinations] == ["log"]


def test_with_alerts_off_their_report_says_so_and_nobody_knows_of_any() -> None:
    monitor, _, _ = watch(anomaly__enabled=False)

    with pytest.raises(NotServedError, match=r"monitoring\.anomaly\.enabled is false") as refusal:
        monitor.alerts()
    assert refusal.value.remedy
    assert monitor.firing() is None


def test_memory_that_is_read_seldom_is_judged_until_it_is_read_again() -> None:
    clock = StillClock()
    keys = {"anomaly__window_seconds": 30, "collection_interval_seconds": 60}
    gpus = GpuWatch(lambda: None)
    monitor = Monitor(settings(**keys), (MODEL,), observer=Heard(), gpus=gpus, clock=clock)
    for observer in monitor.observers:
        observer.observe(ResourcesRead(cpu_percent=1.0, memory_used_bytes=9, memory_total_bytes=10))

    clock.now_s += 60

    used = monitor.metrics().resources.memory_used_bytes
    assert used is not None
    assert used.last == 9


async def test_a_part_that_breaks_is_told_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def break_down() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("mm_orch.monitoring.monitor.HostReader", break_down)
    monitor, observer, heard = watch(anomaly__evaluation_interval_seconds=1)
    async with monitor.running():
        broken = await heard.next(ErrorOccurred)
        assert (broken.component, broken.error_type) == ("monitoring", "ZeroDivisionError")

        observer.observe(
            ResourcesRead(cpu_percent=1.0, memory_used_bytes=99, memory_total_bytes=100)
        )
        assert (await heard.next(AlertChanged)).alert_type == "high_memory"


async def test_what_a_thread_tells_after_the_loop_has_closed_is_dropped() -> None:
    monitor, _, _ = watch()
    closed = asyncio.new_event_loop()
    closed.close()
    monitor._loop = closed

    monitor._tell_from_thread(ErrorOccurred(component="tracing", error_type="SpanExportError"))


@pytest.mark.parametrize(
    ("keys", "absent"),
    [
        ({"monitoring.enabled": False}, ["mm_orch.monitoring", "prometheus_client"]),
        ({"monitoring.prometheus.enabled": False}, ["prometheus_client"]),
        ({"monitoring.anomaly.enabled": False}, ["mm_orch.monitoring.alerts.watch"]),
        # FastAPI imports the API of opentelemetry in any case.
        ({}, ["opentelemetry.sdk", "opentelemetry.exporter", "grpc", "mm_orch.monitoring.tracing"]),
    ],
    ids=["all", "metrics", "alerts", "traces"],
)
def test_what_is_switched_off_is_not_imported(keys: dict[str, bool], absent: list[str]) -> None:
    script = """
import asyncio, json, sys
from mm_orch import server
from mm_orch.app import make_tuner, open_runtime
from mm_orch.config import load_config

async def run(overrides):
    config = load_config(path=None, environ={}, overrides=overrides).config
    async with open_runtime(config, is_server=True) as runtime:
        server._make_application(runtime, make_tuner(runtime))

asyncio.run(run(json.loads(sys.argv[1])))
print(json.dumps(sorted(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", script, json.dumps(keys)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = json.loads(result.stdout.splitlines()[-1])
    found = [
        name
        for name in imported
        if any(f"{name}.".startswith(f"{one}.") for one in [*absent, "mm_orch.tuning"])
    ]
    assert found == []

from __future__ import annotations

import pytest

from mm_orch.core.events import GpuReading, LoadChanged, RequestStatus, ResourcesRead
from mm_orch.monitoring.alert_figures import AlertFigures
from mm_orch.monitoring.alerts.alert import HIGH_ERROR_RATE, Identity, Severity
from mm_orch.monitoring.alerts.baseline import Baselines
from mm_orch.monitoring.alerts.figures import MemoryFigures, ModelFigures
from mm_orch.monitoring.alerts.thresholds import Thresholds, find_breaches
from mm_orch.monitoring.performance import PerformanceMonitor
from mm_orch.monitoring.trends import ResourceTrends
from tests.unit.monitoring.clock import StillClock
from tests.unit.monitoring.scripted_events import ENGINE, MODEL, finished

EVERY_LIMIT = Thresholds(
    latency_threshold_ms=1000.0,
    error_rate_threshold=0.05,
    memory_threshold_percent=90.0,
    throughput_threshold_rps=1.0,
)


class Watched:
    """The parts that the alerts are judged by, put together as the server does."""

    def __init__(self) -> None:
        self.clock = StillClock()
        self.performance = PerformanceMonitor([MODEL], clock=self.clock)
        self.trends = ResourceTrends(clock=self.clock)
        self.figures = AlertFigures(
            [MODEL], performance=self.performance, trends=self.trends, clock=self.clock
        )

    def observe(self, *events: object) -> None:
        for event in events:
            for observer in (self.performance, self.trends, self.figures):
                observer.observe(event)  # type: ignore[arg-type]  # the union is spelt out there


def load(num_waiting: int, model: str = MODEL) -> LoadChanged:
    return LoadChanged(model=model, num_running=1, num_waiting=num_waiting)


def test_only_ends_that_are_the_engines_doing_are_judged() -> None:
    watched = Watched()
    watched.observe(*[finished() for _ in range(30)])
    watched.observe(*[finished(RequestStatus.ERROR, error_type="X") for _ in range(3)])
    watched.observe(*[finished(RequestStatus.TIMEOUT, error_type="X") for _ in range(2)])
    watched.observe(*[finished(RequestStatus.CANCELLED) for _ in range(40)])
    watched.observe(*[finished(RequestStatus.REJECTED, engine="unknown") for _ in range(50)])

    [model] = watched.figures.read().models

    assert (model.model, model.engine) == (MODEL, ENGINE)
    assert (model.num_succeeded, model.num_failed) == (30, 5)
    assert model.latency_p95_s == pytest.approx(1.5, rel=0.02)


@pytest.mark.parametrize("status", [RequestStatus.ERROR, RequestStatus.TIMEOUT])
def test_a_model_that_fails_every_request_before_it_has_an_engine_is_an_alert(
    status: RequestStatus,
) -> None:
    watched = Watched()
    watched.observe(*[finished(status, engine="unknown", error_type="X") for _ in range(20)])

    [breach] = find_breaches(watched.figures.read(), EVERY_LIMIT)

    assert breach.identity == Identity(HIGH_ERROR_RATE, MODEL)
    assert breach.severity is Severity.CRITICAL
    assert breach.message == f"20 of 20 requests to {MODEL} failed (100.0%), over 5.0%"


def test_failures_without_an_engine_are_judged_with_all_ends_of_their_model() -> None:
    watched = Watched()
    watched.observe(*[finished() for _ in range(90)])
    watched.observe(*[finished(RequestStatus.ERROR) for _ in range(4)])
    watched.observe(finished(RequestStatus.REJECTED, engine="unknown"))
    [alone] = watched.figures.read().models
    watched.observe(*[finished(RequestStatus.TIMEOUT, engine="unknown") for _ in range(6)])
    watched.observe(finished(RequestStatus.TIMEOUT, model="made up", engine="unknown"))

    of_engine, whole = watched.figures.read().models
    assert of_engine == alone
    assert whole == ModelFigures(model=MODEL, engine="", num_succeeded=90, num_failed=10)


def test_a_queue_is_told_since_when_it_has_not_been_empty() -> None:
    watched = Watched()
    watched.observe(load(3))
    watched.clock.now_s += 10
    watched.observe(load(5), finished(), finished())
    watched.clock.now_s += 10

    [queue] = watched.figures.read().queues

    assert (queue.model, queue.num_waiting, queue.waiting_s) == (MODEL, 5, 20.0)
    # Over whole slots of the window: two ends in 10 to 20 seconds.
    assert 0.1 <= queue.throughput_rps <= 0.2

    watched.observe(load(0))
    assert watched.figures.read().queues == ()
    watched.observe(load(1))
    assert watched.figures.read().queues[0].waiting_s == 0.0


def test_queues_of_models_that_are_not_configured_are_passed_over() -> None:
    watched = Watched()
    watched.observe(load(3, model="made up"))

    assert watched.figures.read().queues == ()


def test_memory_is_that_of_the_host_and_of_each_healthy_gpu() -> None:
    def gpu(gpu_id: str, fault: str = "") -> GpuReading:
        return GpuReading(
            gpu_id=gpu_id,
            used_bytes=20,
            total_bytes=80,
            utilization_percent=1.0,
            temperature_celsius=1.0,
            fault=fault,
        )

    watched = Watched()
    assert watched.figures.read().memory == ()
    watched.observe(
        ResourcesRead(
            cpu_percent=1.0,
            memory_used_bytes=6,
            memory_total_bytes=8,
            gpus=(gpu("0"), gpu("1", "is lost")),
        )
    )

    assert watched.figures.read().memory == (
        MemoryFigures(place="host", used_ratio=0.75),
        MemoryFigures(place="0", used_ratio=0.25),
    )
    assert watched.figures.read().fault_by_gpu == {"1": "is lost"}


def test_an_idle_server_departs_from_nothing_in_an_hour() -> None:
    watched = Watched()
    # What came before it went quiet was slow and failed, and has to be forgotten.
    watched.observe(*[finished(RequestStatus.ERROR, error_type="X") for _ in range(30)])
    watched.clock.now_s += 301
    baselines = Baselines()

    for _ in range(360):
        watched.clock.now_s += 10
        figures = watched.figures.read()
        assert find_breaches(figures, EVERY_LIMIT) == []
        assert baselines.find_departures(figures, watched.clock.now_s) == []

from __future__ import annotations

import pytest

from mm_orch.core.events import (
    CacheUsed,
    FirstTokenProduced,
    HttpRequestFinished,
    LoadChanged,
    ModelUnloaded,
    RequestFinished,
    RequestStarted,
    RequestStatus,
    StepCompleted,
    TokenGap,
    WorkerStateChanged,
)
from mm_orch.core.figures import UNKNOWN, Distribution, ModelFigures
from mm_orch.core.workflow_events import WorkflowFinished
from mm_orch.monitoring.performance import DIRECT, PerformanceMonitor
from tests.unit.monitoring.clock import StillClock
from tests.unit.monitoring.scripted_events import ENGINE, MODEL, finished, story

OF_MODEL = {"model": MODEL, "engine": ENGINE}


def told(clock: StillClock | None = None) -> PerformanceMonitor:
    monitor = PerformanceMonitor([MODEL], clock=clock or StillClock())
    for event in story():
        monitor.observe(event)
    return monitor


def figures_of(monitor: PerformanceMonitor) -> ModelFigures:
    [found] = [one for one in monitor.models() if (one.model, one.engine) == (MODEL, ENGINE)]
    return found


def only(value: float, count: int = 1) -> Distribution:
    return Distribution(
        count=count, mean=value, min=value, max=value, p50=value, p95=value, p99=value
    )


def test_a_story_gives_its_figures() -> None:
    clock = StillClock()
    monitor = told(clock)
    clock.now_s += 10
    monitor.observe(CacheUsed(**OF_MODEL, use_ratio=0.25))

    assert monitor.models() == (
        ModelFigures(
            **OF_MODEL,
            latency=only(1.5),
            time_to_first_token=only(0.3),
            queue_wait=only(0.02),
            inter_token_latency=Distribution(
                count=3, mean=pytest.approx(0.05), min=0.05, max=0.05, p50=0.05, p95=0.05, p99=0.05
            ),
            step_duration=Distribution(
                count=2,
                mean=pytest.approx(0.12),
                min=0.04,
                max=0.2,
                p50=pytest.approx(0.04, rel=0.01),
                p95=pytest.approx(0.2, rel=0.01),
                p99=pytest.approx(0.2, rel=0.01),
            ),
            num_requests=2,
            num_failed=1,
            num_rejected=0,
            num_cancelled=0,
            num_prompt_tokens=14,
            num_generated_tokens=24,
            num_cached_tokens=6,
            error_rate=0.5,
            throughput_requests_per_second=0.1,
            # The first token and three with a gap, whatever the ends say.
            throughput_tokens_per_second=0.4,
            cache_hit_ratio=6 / 14,
            batch_size_mean=2.0,
            requests_running=2,
            requests_waiting=5,
            kv_use_ratio=0.25,
        ),
    )


def test_runs_of_a_workflow_are_counted_and_not_what_their_steps_ask() -> None:
    clock = StillClock()
    monitor = PerformanceMonitor([MODEL], clock=clock)
    ends = [("success", False, 0.3), ("success", True, None), ("error", False, None)]
    for status, is_partial, ttft_s in ends:
        monitor.observe(finished(workflow="chat_generate"))
        monitor.observe(
            WorkflowFinished(
                request_id="r",
                workflow="chat_generate",
                status=status,
                is_partial=is_partial,
                total_s=2.0,
                ttft_s=ttft_s,
                num_prompt_tokens=5,
                num_generated_tokens=9,
            )
        )
    clock.now_s += 10

    chat, direct = monitor.workflows()
    assert (chat.workflow, direct.workflow) == ("chat_generate", DIRECT)
    assert (chat.num_requests, chat.num_failed, direct.num_requests) == (3, 1, 0)
    assert (chat.latency, chat.time_to_first_token) == (only(2.0, 2), only(0.3, 1))
    assert (chat.num_prompt_tokens, chat.num_generated_tokens) == (15, 27)
    # Each request is one of its model and of its operation, whoever asked.
    [operation] = monitor.operations()
    assert operation.num_requests == figures_of(monitor).num_requests == 3


def test_operations_and_the_one_workflow_count_each_request_whole() -> None:
    clock = StillClock()
    monitor = told(clock)
    clock.now_s += 10

    [operation] = monitor.operations()
    [workflow] = monitor.workflows()
    assert (operation.operation, workflow.workflow) == ("chat", DIRECT)
    for figures in (operation, workflow):
        assert figures.num_requests == 2
        assert figures.time_to_first_token == only(0.3, 2)
        assert figures.queue_wait == only(0.02, 2)
        assert figures.throughput_tokens_per_second == pytest.approx(2.4)


@pytest.mark.parametrize(
    ("statuses", "error_rate"),
    [
        ((), 0.0),
        ((RequestStatus.SUCCESS,), 0.0),
        ((RequestStatus.SUCCESS, RequestStatus.ERROR), 0.5),
        ((RequestStatus.SUCCESS, RequestStatus.TIMEOUT), 0.5),
        ((RequestStatus.ERROR, RequestStatus.TIMEOUT), 1.0),
        ((RequestStatus.SUCCESS, RequestStatus.REJECTED, RequestStatus.CANCELLED), 0.0),
        ((RequestStatus.ERROR, RequestStatus.REJECTED, RequestStatus.CANCELLED), 1.0),
    ],
)
def test_errors_and_timeouts_are_failures_and_refusals_are_counted_apart(
    statuses: tuple[RequestStatus, ...], error_rate: float
) -> None:
    monitor = PerformanceMonitor([MODEL], clock=StillClock())
    monitor.observe(WorkerStateChanged(**OF_MODEL, is_up=True))
    for status in statuses:
        monitor.observe(finished(status))

    figures = figures_of(monitor)
    assert figures.error_rate == error_rate
    assert figures.num_requests == len(statuses)
    assert figures.num_rejected == statuses.count(RequestStatus.REJECTED)
    assert figures.num_cancelled == statuses.count(RequestStatus.CANCELLED)


def test_what_was_refused_at_the_door_tells_no_latency_and_no_tokens() -> None:
    monitor = PerformanceMonitor([MODEL], clock=StillClock())
    monitor.observe(finished(RequestStatus.REJECTED, engine=UNKNOWN))

    [figures] = monitor.models()
    assert (figures.engine, figures.num_rejected, figures.latency) == (UNKNOWN, 1, None)
    assert figures.cache_hit_ratio is None


@pytest.mark.parametrize("status", [one for one in RequestStatus if one.value != "success"])
def test_latencies_are_of_what_succeeded(status: RequestStatus) -> None:
    monitor = PerformanceMonitor([MODEL], clock=StillClock())
    for _ in range(20):
        monitor.observe(finished(total_s=10.0))
    for _ in range(480):
        monitor.observe(finished(status, total_s=0.01))

    for figures in (*monitor.models(), *monitor.operations(), *monitor.workflows()):
        assert figures.latency == only(10.0, 20)


def test_figures_leave_the_window_and_the_load_of_now_stays() -> None:
    clock = StillClock()
    monitor = told(clock)
    clock.now_s += 300

    figures = figures_of(monitor)
    assert (figures.num_requests, figures.latency, figures.batch_size_mean) == (0, None, None)
    assert figures.throughput_tokens_per_second == 0
    assert figures.requests_waiting == 5
    assert [one.num_requests for one in monitor.operations()] == [0]


def test_the_throughput_of_a_part_of_the_window_can_be_asked_for() -> None:
    clock = StillClock()
    monitor = told(clock)
    clock.now_s += 100
    monitor.observe(finished())
    monitor.observe(finished(engine="other"))
    monitor.observe(finished(RequestStatus.ERROR))

    assert monitor.throughput_rps(MODEL, 300) == pytest.approx(3 / 100)
    assert monitor.throughput_rps(MODEL, 60) == pytest.approx(2 / 50)


def test_throughput_counts_from_the_begin_of_the_monitor_not_of_the_model() -> None:
    clock = StillClock()
    monitor = PerformanceMonitor([MODEL], clock=clock)
    clock.now_s += 100
    monitor.observe(finished())

    assert figures_of(monitor).throughput_requests_per_second == pytest.approx(1 / 100)


def test_what_a_worker_held_is_forgotten_when_it_is_gone() -> None:
    for gone in (
        WorkerStateChanged(**OF_MODEL, is_up=False),
        ModelUnloaded(**OF_MODEL, reason="idle"),
    ):
        monitor = PerformanceMonitor([MODEL], clock=StillClock())
        monitor.observe(CacheUsed(**OF_MODEL, use_ratio=0.9))
        assert figures_of(monitor).kv_use_ratio == 0.9
        monitor.observe(gone)
        assert figures_of(monitor).kv_use_ratio is None


def test_a_name_from_outside_opens_no_window_of_its_own() -> None:
    monitor = PerformanceMonitor([MODEL], clock=StillClock())
    for number in range(200):
        name = f"made-up-{number}"
        monitor.observe(finished(model=name, engine=f"engine-{number}"))
        monitor.observe(LoadChanged(model=name, num_running=number, num_waiting=0))
        monitor.observe(
            RequestFinished(
                request_id="r",
                model=MODEL,
                engine=ENGINE,
                status=RequestStatus.SUCCESS,
                total_s=1,
                operation=f"operation-{number}",
            )
        )

    figures = monitor.models()
    assert {one.model for one in figures} == {MODEL, UNKNOWN}
    assert len(figures) <= 66
    assert len(monitor.operations()) <= 17
    assert sum(one.num_requests for one in figures) == 400
    assert sum(one.num_requests for one in monitor.operations()) == 400
    assert monitor.load(UNKNOWN).num_running == 199
    assert monitor.load("made-up-1").num_running == 0


def test_a_model_has_its_row_from_when_its_engine_is_up() -> None:
    monitor = PerformanceMonitor([MODEL], clock=StillClock())
    monitor.observe(WorkerStateChanged(**OF_MODEL, is_up=True))

    [figures] = monitor.models()
    assert (figures.model, figures.engine, figures.num_requests) == (MODEL, ENGINE, 0)


def test_facts_of_others_are_passed_over() -> None:
    monitor = PerformanceMonitor([MODEL], clock=StillClock())
    monitor.observe(HttpRequestFinished(route="/x", method="GET", status=200, duration_s=1))

    assert monitor.models() == ()


def test_memory_does_not_grow_with_what_is_observed() -> None:
    clock = StillClock()
    monitor = PerformanceMonitor([MODEL], clock=clock)
    for number in range(5000):
        clock.now_s += 1
        seconds = 0.001 * (1 + number % 7)
        monitor.observe(TokenGap(**OF_MODEL, seconds_per_token=seconds, num_tokens=1))
        monitor.observe(StepCompleted(**OF_MODEL, phase="decode", batch_size=1, duration_s=seconds))
        monitor.observe(RequestStarted(request_id="r", **OF_MODEL, queue_wait_s=seconds))
        monitor.observe(FirstTokenProduced(request_id="r", **OF_MODEL, ttft_s=seconds))

    [window] = monitor._by_engine.values()
    assert len(window._slots) == 30
    assert len(window.merged().inter_token._num_by_bucket) == 7

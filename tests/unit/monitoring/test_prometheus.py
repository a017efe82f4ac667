from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_open_metrics,
)
from prometheus_client.parser import text_string_to_metric_families

from mm_orch.core.events import (
    AlertChanged,
    FirstTokenProduced,
    GpuReading,
    LoadChanged,
    ModelUnloaded,
    RequestStatus,
    ResourcesRead,
    TokenGap,
    WorkerRestarted,
    WorkerStateChanged,
)
from mm_orch.core.trace import TraceContext
from mm_orch.monitoring.prometheus import PrometheusObserver
from tests.available import needs_program
from tests.unit.monitoring.clock import StillClock
from tests.unit.monitoring.scripted_events import ENGINE, MODEL, finished, happened_beside, story

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

HTTP = {"route", "method", "status"}
BOTH = {"model", "engine"}
REPLICA = {"model", "replica"}
# Name, type and labels, as users' dashboards and rules know them.
CONTRACT = {
    "inference_latency_seconds": ("histogram", BOTH),
    "requests_refused_total": ("counter", {"model", "reason"}),
    "inference_requests_total": ("counter", BOTH | {"status"}),
    "time_to_first_token_seconds": ("histogram", BOTH),
    "inter_token_latency_seconds": ("histogram", BOTH),
    "queue_wait_seconds": ("histogram", BOTH),
    "prompt_tokens_total": ("counter", BOTH),
    "generation_tokens_total": ("counter", BOTH),
    "cached_prompt_tokens_total": ("counter", BOTH),
    "requests_running": ("gauge", {"model"}),
    "requests_waiting": ("gauge", {"model"}),
    "throughput_requests_per_second": ("gauge", {"model"}),
    "throughput_tokens_per_second": ("gauge", {"model"}),
    "batch_size": ("histogram", {"model"}),
    "step_duration_seconds": ("histogram", BOTH | {"phase"}),
    "engine_up": ("gauge", BOTH),
    "engine_restarts_total": ("counter", BOTH),
    "engine_circuit_state": ("gauge", BOTH),
    "engine_fallbacks_total": ("counter", {"model", "from_engine", "to_engine"}),
    "request_failovers_total": ("counter", {"model"}),
    "remote_endpoints": ("gauge", {"model", "state"}),
    "remote_endpoint_changes_total": ("counter", {"model", "change"}),
    "remote_requests_total": ("counter", {"model", "rule"}),
    "replica_up": ("gauge", REPLICA),
    "replica_queued_tokens": ("gauge", REPLICA),
    "replica_kv_cache_usage_ratio": ("gauge", REPLICA),
    "replica_requests_total": ("counter", REPLICA | {"rule"}),
    "autoscaling_decisions_total": ("counter", {"model", "direction"}),
    "autoscaling_wanted_replicas": ("gauge", {"model"}),
    "autoscaling_wait_seconds": ("gauge", {"model"}),
    "kv_cache_hit_rate": ("gauge", {"model"}),
    "kv_cache_usage_ratio": ("gauge", {"model"}),
    "kv_cache_evictions_total": ("counter", {"model"}),
    "gpu_memory_used_bytes": ("gauge", {"gpu_id"}),
    "gpu_memory_available_bytes": ("gauge", {"gpu_id"}),
    "gpu_memory_total_bytes": ("gauge", {"gpu_id"}),
    "gpu_utilization_percent": ("gauge", {"gpu_id"}),
    "gpu_temperature_celsius": ("gauge", {"gpu_id"}),
    "gpu_power_watts": ("gauge", {"gpu_id"}),
    "gpu_health_status": ("gauge", {"gpu_id"}),
    "model_gpus": ("gauge", {"model"}),
    "model_workers_on_lesser_place": ("gauge", {"model"}),
    "gpu_worker_moves_total": ("counter", {"model"}),
    "cpu_usage_percent": ("gauge", set()),
    "memory_used_bytes": ("gauge", set()),
    "memory_total_bytes": ("gauge", set()),
    "system_uptime_seconds": ("gauge", set()),
    "alerts_total": ("counter", {"type", "severity"}),
    "config_changes_total": ("counter", {"key", "source"}),
    "model_lifecycle_events_total": ("counter", {"model", "event_type"}),
    "model_load_seconds": ("histogram", {"model"}),
    "errors_total": ("counter", {"component", "error_type"}),
    "workflow_runs_total": ("counter", {"workflow", "status"}),
    "workflow_duration_seconds": ("histogram", {"workflow"}),
    "routing_decisions_total": ("counter", {"workflow", "by"}),
    "mood_valence": ("gauge", set()),
    "mood_arousal": ("gauge", set()),
    "development_stage": ("gauge", set()),
    "feedback_total": ("counter", {"rating"}),
    "http_requests_total": ("counter", HTTP),
    "http_request_duration_seconds": ("histogram", HTTP),
    "http_requests_per_second": ("gauge", HTTP),
}


def samples_of(observer: PrometheusObserver) -> list[Sample]:
    body, _ = observer.render()
    return [
        sample
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    ]


def value_of(observer: PrometheusObserver, name: str, **labels: str) -> float:
    """The one sample with this name and exactly these labels."""
    [found] = [s.value for s in samples_of(observer) if s.name == name and s.labels == labels]
    return found


def told(clock: StillClock | None = None) -> PrometheusObserver:
    observer = PrometheusObserver([MODEL], clock=clock or StillClock())
    for event in [*story(), *happened_beside()]:
        observer.observe(event)
    return observer


def test_every_series_has_the_name_type_and_labels_of_the_contract() -> None:
    body, _ = told().render()

    seen = {}
    for family in text_string_to_metric_families(body.decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        seen[name] = (family.type, labels)
    ours = {name: facts for name, facts in seen.items() if not name.startswith("process_")}
    assert ours == CONTRACT
    assert "process_resident_memory_bytes" in seen


def test_a_story_gives_its_counts() -> None:
    observer = told()
    both = {"model": MODEL, "engine": ENGINE}

    assert value_of(observer, "inference_requests_total", **both, status="success") == 1
    assert value_of(observer, "inference_requests_total", **both, status="error") == 1
    assert value_of(observer, "prompt_tokens_total", **both) == 14
    assert value_of(observer, "generation_tokens_total", **both) == 24
    assert value_of(observer, "cached_prompt_tokens_total", **both) == 6
    assert value_of(observer, "engine_restarts_total", **both) == 1
    assert value_of(observer, "remote_endpoints", model=MODEL, state="ready") == 2
    assert value_of(observer, "remote_endpoints", model=MODEL, state="failed") == 0
    assert value_of(observer, "remote_endpoint_changes_total", model=MODEL, change="joined") == 1
    assert value_of(observer, "remote_requests_total", model=MODEL, rule="prefix") == 1
    assert value_of(observer, "remote_requests_total", model=MODEL, rule="session") == 0
    assert value_of(observer, "engine_circuit_state", **both) == 2
    assert value_of(observer, "request_failovers_total", model=MODEL) == 1
    fallback = {"model": MODEL, "from_engine": ENGINE, "to_engine": "spare"}
    assert value_of(observer, "engine_fallbacks_total", **fallback) == 2
    errors = {
        ("request", "EngineFailedError"): 1,
        ("worker", "EngineCrashedError"): 1,
    }
    for (component, error_type), count in errors.items():
        found = value_of(observer, "errors_total", component=component, error_type=error_type)
        assert found == count
    for event_type in ("loaded", "down", "restarting"):
        assert (
            value_of(observer, "model_lifecycle_events_total", model=MODEL, event_type=event_type)
            == 1
        )


def test_a_story_gives_its_distributions() -> None:
    observer = told()
    both = {"model": MODEL, "engine": ENGINE}

    for name, count, total in (
        ("inference_latency_seconds", 2, 3.0),
        ("time_to_first_token_seconds", 1, 0.3),
        ("queue_wait_seconds", 1, 0.02),
    ):
        assert value_of(observer, f"{name}_count", **both) == count
        assert value_of(observer, f"{name}_sum", **both) == pytest.approx(total)
    assert value_of(observer, "batch_size_sum", model=MODEL) == 4
    assert value_of(observer, "model_load_seconds_sum", model=MODEL) == 4.0
    assert value_of(observer, "step_duration_seconds_sum", **both, phase="prefill") == 0.2
    assert value_of(observer, "step_duration_seconds_sum", **both, phase="mixed") == 0


def test_a_chunk_of_several_tokens_counts_each() -> None:
    observer = told()

    count = value_of(observer, "inter_token_latency_seconds_count", model=MODEL, engine=ENGINE)

    assert count == 3


def test_gauges_follow_the_present() -> None:
    observer = told()
    assert value_of(observer, "requests_waiting", model=MODEL) == 5
    assert value_of(observer, "engine_up", model=MODEL, engine=ENGINE) == 0

    observer.observe(LoadChanged(model=MODEL, num_running=0, num_waiting=0))
    observer.observe(WorkerStateChanged(model=MODEL, engine=ENGINE, is_up=True))

    assert value_of(observer, "requests_waiting", model=MODEL) == 0
    assert value_of(observer, "requests_running", model=MODEL) == 0
    assert value_of(observer, "engine_up", model=MODEL, engine=ENGINE) == 1


def test_throughput_is_that_of_the_last_minute() -> None:
    clock = StillClock()
    observer = PrometheusObserver([MODEL], clock=clock)
    clock.now_s += 100
    for _ in range(6):
        observer.observe(finished())
    observer.observe(finished(RequestStatus.CANCELLED, num_generated_tokens=60))

    requests = value_of(observer, "throughput_requests_per_second", model=MODEL)
    tokens = value_of(observer, "throughput_tokens_per_second", model=MODEL)
    clock.now_s += 61
    later = value_of(observer, "throughput_tokens_per_second", model=MODEL)

    # A cancelled request is no success, but its tokens were computed.
    assert requests == pytest.approx(6 / 60)
    assert tokens == pytest.approx((6 * 20 + 60) / 60)
    assert later == 0


def test_a_known_model_is_there_at_zero_before_its_first_request() -> None:
    observer = PrometheusObserver([MODEL], clock=StillClock())

    for status in RequestStatus:
        refused = {"model": MODEL, "engine": "unknown", "status": status.value}
        assert value_of(observer, "inference_requests_total", **refused) == 0
    assert value_of(observer, "requests_waiting", model=MODEL) == 0
    assert value_of(observer, "throughput_tokens_per_second", model=MODEL) == 0


def test_a_worker_that_comes_up_brings_its_series_at_zero() -> None:
    observer = PrometheusObserver([MODEL], clock=StillClock())
    both = {"model": MODEL, "engine": "vllm"}

    observer.observe(WorkerStateChanged(**both, is_up=True))

    for status in RequestStatus:
        assert value_of(observer, "inference_requests_total", **both, status=status.value) == 0
    assert value_of(observer, "inference_latency_seconds_count", **both) == 0
    assert value_of(observer, "time_to_first_token_seconds_count", **both) == 0
    assert value_of(observer, "engine_restarts_total", **both) == 0


def test_a_refusal_at_the_door_is_counted_and_is_no_latency() -> None:
    observer = PrometheusObserver([MODEL], clock=StillClock())

    observer.observe(finished(RequestStatus.REJECTED, engine="unknown", error_type="QueueFull"))

    labels = {"model": MODEL, "engine": "unknown"}
    assert value_of(observer, "inference_requests_total", **labels, status="rejected") == 1
    names = {s.name for s in samples_of(observer) if s.labels.get("engine") == "unknown"}
    assert names == {"inference_requests_total"}
    # Nobody's failure.
    assert not [s for s in samples_of(observer) if s.name == "errors_total"]


def test_names_that_clients_make_up_do_not_become_series() -> None:
    observer = PrometheusObserver([MODEL], clock=StillClock())
    for number in range(50):
        observer.observe(finished(RequestStatus.REJECTED, model=f"made-up-{number}"))
        observer.observe(
            TokenGap(model=f"x{number}", engine=ENGINE, seconds_per_token=1, num_tokens=1)
        )
        observer.observe(LoadChanged(model=f"x{number}", num_running=1, num_waiting=1))
        observer.observe(WorkerRestarted(model=f"x{number}", engine=ENGINE))

    samples = samples_of(observer)
    assert {s.labels["model"] for s in samples if "model" in s.labels} == {MODEL, "unknown"}


def test_a_model_that_was_unloaded_has_no_open_circuit() -> None:
    observer = told()
    both = {"model": MODEL, "engine": ENGINE}
    assert value_of(observer, "engine_circuit_state", **both) == 2

    observer.observe(ModelUnloaded(model=MODEL, engine="spare", reason="asked"))

    assert value_of(observer, "engine_circuit_state", **both) == 0


def test_the_caches_figures_are_those_of_the_window() -> None:
    clock = StillClock()
    observer = told(clock)

    assert value_of(observer, "kv_cache_hit_rate", model=MODEL) == pytest.approx(6 / 14)
    assert value_of(observer, "kv_cache_usage_ratio", model=MODEL) == 0.25
    assert value_of(observer, "kv_cache_evictions_total", model=MODEL) == 3
    clock.now_s += 301
    assert not value_of(observer, "kv_cache_hit_rate", model=MODEL)


def test_a_gpu_that_cannot_be_read_keeps_its_last_values_and_loses_its_health() -> None:
    observer = told()
    lost = GpuReading(
        gpu_id="0",
        used_bytes=0,
        total_bytes=0,
        fault="is lost",
    )
    assert value_of(observer, "gpu_health_status", gpu_id="0") == 1
    assert value_of(observer, "gpu_memory_available_bytes", gpu_id="0") == 18 << 30

    observer.observe(
        ResourcesRead(cpu_percent=1, memory_used_bytes=1, memory_total_bytes=2, gpus=(lost,))
    )

    assert value_of(observer, "gpu_health_status", gpu_id="0") == 0
    assert value_of(observer, "gpu_memory_used_bytes", gpu_id="0") == 6 << 30


def test_what_a_card_does_not_offer_has_no_series() -> None:
    observer = PrometheusObserver([MODEL], clock=StillClock())
    bare = GpuReading(gpu_id="0", used_bytes=1, total_bytes=2)
    observer.observe(
        ResourcesRead(cpu_percent=1, memory_used_bytes=1, memory_total_bytes=2, gpus=(bare,))
    )

    assert {s.name for s in samples_of(observer) if "gpu_id" in s.labels} == {
        "gpu_health_status",
        "gpu_memory_used_bytes",
        "gpu_memory_available_bytes",
        "gpu_memory_total_bytes",
    }


def test_an_alert_is_counted_when_it_begins_or_grows_worse() -> None:
    observer = told()
    labels = {"type": "high_latency", "severity": "warning"}
    for is_firing, is_new in ((True, False), (False, True)):
        observer.observe(
            AlertChanged(
                alert_type="high_latency",
                severity="warning",
                is_firing=is_firing,
                is_new=is_new,
                model=MODEL,
                engine=ENGINE,
                message="slow",
            )
        )

    assert value_of(observer, "alerts_total", **labels) == 1
    assert value_of(observer, "alerts_total", type="high_memory", severity="critical") == 0


def test_open_metrics_lead_from_a_bucket_to_a_trace() -> None:
    observer = PrometheusObserver([MODEL], clock=StillClock())
    for trace_id, is_sampled in ((0xABC, True), (0xDEF, False)):
        observer.observe(
            FirstTokenProduced(
                request_id="r1",
                model=MODEL,
                engine=ENGINE,
                ttft_s=0.3,
                trace=TraceContext(trace_id, 1, is_sampled=is_sampled),
            )
        )

    page, content_type = observer.render("application/openmetrics-text;version=1.0.0,*/*;q=0.1")

    assert content_type.startswith("application/openmetrics-text")
    traces = {
        sample.exemplar.labels["trace_id"]
        for family in read_open_metrics(page.decode())
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert traces == {f"{0xABC:032x}"}


def test_two_observers_share_nothing() -> None:
    first, second = told(), PrometheusObserver([MODEL], clock=StillClock())
    assert value_of(first, "requests_waiting", model=MODEL) == 5
    assert value_of(second, "requests_waiting", model=MODEL) == 0


def test_the_content_type_is_that_of_the_text_format() -> None:
    body, content_type = PrometheusObserver([]).render()

    assert content_type.startswith("text/plain; version=0.0.4")
    assert body.endswith(b"\n")
    assert b"_created" not in body


@needs_program("promtool")
def test_promtool_finds_no_fault() -> None:
    body, _ = told().render()

    result = subprocess.run(
        ["promtool", "check", "metrics"], input=body, capture_output=True, check=False
    )

    assert (result.returncode, result.stdout + result.stderr) == (0, b"")

from __future__ import annotations

import msgspec

from mm_orch.core.events import GpuReading, ResourcesRead
from mm_orch.core.figures import Figures
from mm_orch.monitoring.figures import REUSE_S, FiguresReader
from mm_orch.monitoring.history import History
from mm_orch.monitoring.performance import PerformanceMonitor
from mm_orch.monitoring.trends import ResourceTrends
from tests.unit.monitoring.clock import StillClock
from tests.unit.monitoring.scripted_events import MODEL, story

GPU = GpuReading(
    gpu_id="0", used_bytes=4, total_bytes=8, utilization_percent=50, temperature_celsius=60
)
REQUESTS = {
    "latency",
    "time_to_first_token",
    "queue_wait",
    "num_requests",
    "num_failed",
    "num_rejected",
    "num_cancelled",
    "num_prompt_tokens",
    "num_generated_tokens",
    "num_cached_tokens",
    "error_rate",
    "throughput_requests_per_second",
    "throughput_tokens_per_second",
    "cache_hit_ratio",
}
OF_MODEL = {
    "model",
    "engine",
    "inter_token_latency",
    "step_duration",
    "batch_size_mean",
    "requests_running",
    "requests_waiting",
    "kv_use_ratio",
}
TREND = {"last", "mean", "min", "max"}


def told(clock: StillClock) -> FiguresReader:
    performance = PerformanceMonitor([MODEL], clock=clock)
    trends = ResourceTrends(clock=clock)
    history = History([MODEL], clock=clock, wall_clock=clock)
    read = ResourcesRead(cpu_percent=1, memory_used_bytes=2, memory_total_bytes=3, gpus=(GPU,))
    for event in (*story(), read):
        for observer in (performance, trends, history):
            observer.observe(event)
    clock.now_s += 5
    return FiguresReader(performance, trends, history, clock=clock)


def test_the_json_has_the_keys_that_its_readers_know() -> None:
    answer = msgspec.json.decode(msgspec.json.encode(told(StillClock()).read()))

    assert answer["window_seconds"] == 300
    [model] = answer["models"]
    assert set(model) == REQUESTS | OF_MODEL
    assert set(model["latency"]) == {"count", "mean", "min", "max", "p50", "p95", "p99"}
    assert [set(one) for one in answer["operations"]] == [REQUESTS | {"operation"}]
    assert [set(one) for one in answer["workflows"]] == [REQUESTS | {"workflow"}]
    resources = answer["resources"]
    assert set(resources["cpu_percent"]) == set(resources["memory_used_bytes"]) == TREND
    assert resources["memory_total_bytes"] == 3
    assert set(resources["gpus"][0]["utilization_percent"]) == TREND
    assert answer["history"]["interval_seconds"] == 5
    [point] = answer["history"]["points"]
    assert point["at"] == StillClock.BEGIN_S + 5
    assert set(point["models"]) == {MODEL}
    assert set(point["total"]) == set(point["models"][MODEL])


def test_the_figures_come_back_from_json_as_they_were() -> None:
    figures = told(StillClock()).read()

    assert msgspec.json.decode(msgspec.json.encode(figures), type=Figures) == figures


def test_windows_are_read_once_a_second_however_many_ask() -> None:
    clock = StillClock()
    reader = told(clock)
    first = reader.read()

    clock.now_s += REUSE_S / 2
    assert reader.read().models is first.models
    clock.now_s += REUSE_S / 2
    assert reader.read().models is not first.models


def test_what_is_known_of_kv_memory_is_that_of_the_windows() -> None:
    reader = told(StillClock())

    [(key, cache)] = reader.caches().items()

    [model] = reader.read().models
    assert key == (model.model, model.engine)
    assert cache.kv_use_ratio == model.kv_use_ratio
    assert cache.cache_hit_ratio == model.cache_hit_ratio
    assert cache.kv_use_ratio is not None
    assert cache.cache_hit_ratio is not None

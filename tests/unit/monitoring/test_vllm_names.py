from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from mm_orch.core.events import CacheUsed, LoadChanged, ModelLoaded
from mm_orch.monitoring.prometheus import PrometheusObserver

if TYPE_CHECKING:
    from mm_orch.core.events import Event


def told(*events: Event, has_vllm_names: bool = True) -> dict[tuple[str, ...], float]:
    observer = PrometheusObserver(["small"], has_vllm_names=has_vllm_names)
    for event in events:
        observer.observe(event)
    page, _ = observer.render()
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if sample.name.startswith("vllm:")
    }


def loaded(num_kv_blocks: int) -> ModelLoaded:
    return ModelLoaded(
        model="small",
        engine="pytorch",
        duration_s=1.0,
        kv_block_tokens=16,
        num_kv_blocks=num_kv_blocks,
    )


def test_the_names_are_absent_unless_asked_for() -> None:
    assert told(loaded(10), has_vllm_names=False) == {}


def test_an_endpoint_picker_reads_queue_load_and_memory() -> None:
    seen = told(
        LoadChanged(model="small", num_running=3, num_waiting=7),
        CacheUsed(model="small", engine="pytorch", use_ratio=0.5),
        loaded(2048),
    )

    assert seen == {
        ("vllm:num_requests_waiting", "small"): 7,
        ("vllm:num_requests_running", "small"): 3,
        ("vllm:kv_cache_usage_perc", "small"): 0.5,
        ("vllm:cache_config_info", "16", "2048", "small"): 1,
    }


def test_a_model_on_another_engine_has_one_set_of_blocks() -> None:
    seen = told(loaded(2048), loaded(100), loaded(0))

    assert [labels for name, *labels in seen if name == "vllm:cache_config_info"] == [
        ["100", "16", "small"]
    ]


def test_models_that_are_not_configured_are_passed_over() -> None:
    seen = told(LoadChanged(model="made up", num_running=1, num_waiting=1))

    assert {key[-1] for key in seen} == {"small"}

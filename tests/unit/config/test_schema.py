from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mm_orch.config import Config, ModelConfig
from mm_orch.config.keys import Key, dotted, keys_by_path
from mm_orch.config.kinds import Shape
from mm_orch.config.schema import BUILT_IN_MODEL, BUILT_IN_SOURCE
from mm_orch.config.schema.values import LARGEST_INT
from tests.unit.config.lookup import value_at

if TYPE_CHECKING:
    from tests.unit.config.conftest import Faults, Load

# The contract's defaults, key by key; None also stands for null.
DEFAULTS: dict[str, object] = {
    "optimization.enabled": True,
    "optimization.engine_preference": None,
    "optimization.fallback_on_error": True,
    "optimization.balancing": "prefix",
    "optimization.vllm.enabled": True,
    "optimization.vllm.python": None,
    "optimization.vllm.tensor_parallel_size": 1,
    "optimization.vllm.pipeline_parallel_size": 1,
    "optimization.vllm.dtype": "auto",
    "optimization.vllm.max_model_len": None,
    "optimization.vllm.gpu_memory_utilization": 0.9,
    "optimization.vllm.swap_space": 4,
    "optimization.deepspeed.enabled": True,
    "optimization.deepspeed.python": None,
    "optimization.deepspeed.tensor_parallel": 1,
    "optimization.deepspeed.pipeline_parallel": 1,
    "optimization.deepspeed.dtype": "fp16",
    "optimization.deepspeed.replace_with_kernel_inject": True,
    "optimization.openvino.enabled": True,
    "optimization.openvino.python": None,
    "optimization.openvino.device": "AUTO",
    "optimization.openvino.precision": "auto",
    "optimization.onnx.enabled": True,
    "optimization.onnx.python": None,
    "optimization.onnx.execution_providers": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "optimization.onnx.optimization_level": "all",
    "optimization.onnx.enable_quantization": False,
    "optimization.pytorch.dtype": "auto",
    "optimization.pytorch.compile": False,
    "optimization.batcher.enabled": True,
    "optimization.batcher.max_batch_size": 32,
    "optimization.batcher.min_batch_size": 1,
    "optimization.batcher.batch_timeout_ms": 50,
    "optimization.batcher.adaptive_batching": True,
    "optimization.batcher.max_batch_tokens": 2048,
    "optimization.cache.enabled": True,
    "optimization.cache.max_memory_mb": 4096,
    "optimization.cache.eviction_policy": "lru",
    "optimization.tuner.enabled": False,
    "optimization.tuner.observation_window_seconds": 300,
    "optimization.tuner.tuning_interval_seconds": 60,
    "optimization.tuner.enable_batch_size_tuning": True,
    "optimization.tuner.enable_timeout_tuning": True,
    "optimization.tuner.enable_cache_size_tuning": True,
    "optimization.tuner.target_p95_ms": None,
    "optimization.autoscaler.target_wait_s": 2.0,
    "optimization.autoscaler.quiet_s": 300.0,
    "orchestration.watchdog_timeout_s": 120.0,
    "orchestration.max_failovers": 3,
    "cluster.address": None,
    "cluster.host": None,
    "cluster.python": None,
    "cluster.cpus_per_worker": 1,
    "cluster.gpus_per_worker": None,
    "cluster.placement_timeout_s": 300.0,
    "workflows.enabled": True,
    "workflows.deadline_s": None,
    "workflows.window_tokens": None,
    "workflows.folder": None,
    "workflows.search.provider": "recorded",
    "workflows.search.url": None,
    "workflows.search.corpus": None,
    "workflows.search.max_pages": 3,
    "workflows.search.timeout_s": 10.0,
    "workflows.search.page_timeout_s": 10.0,
    "workflows.search.max_page_bytes": 2097152,
    "workflows.search.allowed_ports": (80, 443),
    "workflows.search.allowed_private_hosts": (),
    "workflows.confidence.enabled": True,
    "workflows.confidence.unsure_below": None,
    "workflows.confidence.ask_again_below": 0.4,
    "workflows.confidence.unknown_below": 0.3,
    "workflows.cascade.enabled": False,
    "workflows.cascade.large_model": None,
    "workflows.cascade.min_confidence": 0.4,
    "workflows.cascade.samples": 4,
    "workflows.cascade.temperature": 0.7,
    "discovery.interval_s": 10.0,
    "discovery.dns_server": None,
    "discovery.dns_port": 53,
    "discovery.kubernetes_url": "https://kubernetes.default.svc",
    "discovery.kubernetes_credentials": "/var/run/secrets/kubernetes.io/serviceaccount",
    "storage.url": None,
    "storage.max_connections": 8,
    "storage.statement_timeout_s": 30.0,
    "consciousness.enabled": True,
    "consciousness.goals.quality": 0.6,
    "consciousness.goals.latency": 0.2,
    "consciousness.goals.cost": 0.2,
    "consciousness.emotion.enabled": False,
    "consciousness.emotion.half_life_s": 3600.0,
    "consciousness.emotion.max_temperature_offset": 0.1,
    "consciousness.development.enabled": False,
    "consciousness.development.min_successes": 20,
    "consciousness.development.min_success_ratio": 0.8,
    "consciousness.development.stage_0": ("chat_generate", "self_description"),
    "consciousness.development.stage_1": ("rag_qa", "search_qa"),
    "consciousness.development.stage_2": ("lesson_pack", "self_ask_search_qa", "cascade"),
    "consciousness.development.stage_3": ("*",),
    "consciousness.memory.half_life_s": 604800.0,
    "routing.workflows.by_default": True,
    "routing.workflows.learn_from_feedback": True,
    "routing.workflows.min_confidence": 0.0,
    "routing.workflows.allowed": (
        "lesson_pack",
        "rag_qa",
        "self_ask_search_qa",
        "search_qa",
        "chat_generate",
    ),
    "monitoring.enabled": True,
    "monitoring.collection_interval_seconds": 60,
    "monitoring.prometheus.enabled": True,
    "monitoring.prometheus.port": 9090,
    "monitoring.prometheus.host": "127.0.0.1",
    "monitoring.prometheus.path": "/metrics",
    "monitoring.prometheus.compat_vllm_names": False,
    "monitoring.tracing.enabled": False,
    "monitoring.tracing.endpoint": None,
    "monitoring.tracing.sample_rate": 1.0,
    "monitoring.tracing.service_name": "muai-orchestration",
    "monitoring.tracing.export_timeout_ms": 30000,
    "monitoring.tracing.capture_content": False,
    "monitoring.anomaly.enabled": True,
    "monitoring.anomaly.latency_threshold_ms": None,
    "monitoring.anomaly.error_rate_threshold": 0.05,
    "monitoring.anomaly.memory_threshold_percent": 90.0,
    "monitoring.anomaly.throughput_threshold_rps": None,
    "monitoring.anomaly.adaptive": True,
    "monitoring.anomaly.evaluation_interval_seconds": 10,
    "monitoring.anomaly.window_seconds": 300,
    "monitoring.anomaly.min_samples": 20,
    "monitoring.anomaly.alert_rate_limit_seconds": 300,
    "monitoring.anomaly.alert_destinations": ("log",),
    "monitoring.anomaly.webhook_url": None,
    "monitoring.anomaly.alertmanager_url": "http://localhost:9093",
    "monitoring.server.enabled": False,
    "monitoring.server.host": "127.0.0.1",
    "monitoring.server.port": 8000,
    "monitoring.server.queue_capacity": 100,
    "monitoring.server.preload_models": (),
    "monitoring.server.graceful_shutdown_timeout": 30,
    "monitoring.server.health_check_path": "/health",
    "monitoring.server.readiness_check_path": "/ready",
    "system.log_level": "INFO",
    "system.log_file": "logs/muai.log",
    "system.log_format": "text",
    "system.device": "auto",
    "system.max_cached_models": 3,
    "system.model_memory_mb": None,
    "system.data_dir": None,
    "api.enable_auth": False,
    "api.api_keys": (),
    "api.cors_origins": (),
    "api.max_request_bytes": 10485760,
    "api.request_timeout_s": 300.0,
    "api.rate_limit_per_minute": None,
}
LIVE = {
    "optimization.batcher.max_batch_size",
    "optimization.batcher.min_batch_size",
    "optimization.batcher.batch_timeout_ms",
    "optimization.batcher.max_batch_tokens",
    "optimization.cache.max_memory_mb",
    "optimization.tuner.observation_window_seconds",
    "optimization.tuner.tuning_interval_seconds",
    "optimization.tuner.enable_batch_size_tuning",
    "optimization.tuner.enable_timeout_tuning",
    "optimization.tuner.enable_cache_size_tuning",
    "optimization.autoscaler.target_wait_s",
    "optimization.autoscaler.quiet_s",
    "monitoring.server.queue_capacity",
    "monitoring.server.graceful_shutdown_timeout",
    "models.*.endpoints",
    "models.*.replicas",
}
KEYS = list(keys_by_path().values())
NUMBERS = [key for key in KEYS if key.kind.shape in {Shape.INT, Shape.FLOAT}]


def name_of(key: Key) -> str:
    return dotted(key.path)


def with_model(key: str) -> str:
    return key.replace("models.*", f"models.{BUILT_IN_MODEL}")


def test_every_key_has_the_default_of_the_contract() -> None:
    config = Config()
    assert {key: value_at(config, key) for key in DEFAULTS} == DEFAULTS


def test_the_contract_names_every_key() -> None:
    assert {name_of(key) for key in KEYS if key.path[0] != "models"} == set(DEFAULTS)
    assert [key.path[2] for key in KEYS if key.path[0] == "models"] == [
        "source",
        "task",
        "endpoints",
        "endpoint_cache_tokens",
        "api_key",
        "aliases",
        "engines",
        "context_length",
        "dtype",
        "quantization",
        "trust_remote_code",
        "idle_unload_s",
        "replicas",
    ]


def test_a_models_options_have_the_defaults_of_the_contract() -> None:
    assert ModelConfig(source="path:/models/m") == ModelConfig(
        source="path:/models/m",
        task="generate",
        aliases=(),
        engines=None,
        context_length=None,
        dtype="auto",
        quantization=None,
        trust_remote_code=False,
        replicas=1,
    )


def test_the_live_keys_are_those_of_the_contract() -> None:
    assert {name_of(key) for key in KEYS if key.facts.is_live} == LIVE


@pytest.mark.parametrize("key", KEYS, ids=name_of)
def test_every_key_is_described_in_a_sentence(key: Key) -> None:
    assert key.description.endswith(".")
    assert key.kind.words


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimization.vllm.gpu_memory_utilization", 0),
        ("optimization.vllm.gpu_memory_utilization", 1.01),
        ("optimization.vllm.tensor_parallel_size", 0),
        ("optimization.vllm.swap_space", -1),
        ("optimization.vllm.dtype", "int8"),
        ("optimization.deepspeed.dtype", "auto"),
        ("optimization.openvino.device", "TPU"),
        ("optimization.onnx.optimization_level", "max"),
        ("optimization.onnx.execution_providers", [1]),
        ("optimization.pytorch.dtype", "fp8"),
        ("optimization.engine_preference", []),
        ("optimization.engine_preference", ["auto", "vllm"]),
        ("optimization.engine_preference", ["Big Engine"]),
        ("optimization.batcher.max_batch_size", 0),
        ("optimization.batcher.max_batch_size", 8.0),
        ("optimization.batcher.max_batch_size", True),
        ("optimization.batcher.batch_timeout_ms", -1),
        ("optimization.cache.eviction_policy", "random"),
        ("optimization.enabled", 1),
        ("monitoring.collection_interval_seconds", 0),
        ("monitoring.prometheus.port", 65536),
        ("monitoring.prometheus.port", -1),
        ("monitoring.prometheus.host", ""),
        ("monitoring.prometheus.host", "a b"),
        ("monitoring.prometheus.path", "metrics"),
        ("monitoring.tracing.endpoint", "localhost:4317"),
        ("monitoring.tracing.endpoint", "http://"),
        ("monitoring.tracing.endpoint", "http://host:notaport"),
        ("monitoring.tracing.sample_rate", 1.5),
        ("monitoring.tracing.sample_rate", float("nan")),
        ("monitoring.anomaly.error_rate_threshold", 2),
        ("monitoring.anomaly.memory_threshold_percent", 101),
        ("monitoring.anomaly.alert_destinations", ["pager"]),
        ("monitoring.server.queue_capacity", 0),
        ("monitoring.server.graceful_shutdown_timeout", -1),
        ("monitoring.server.health_check_path", "/a?b"),
        ("system.log_level", "LOUD"),
        ("system.log_format", "xml"),
        ("system.device", "gpu"),
        ("system.max_cached_models", 0),
        ("system.data_dir", "a\0b"),
        ("api.cors_origins", ["https://a.example/"]),
        ("api.max_request_bytes", 0),
        ("api.request_timeout_s", 0),
        ("api.request_timeout_s", float("inf")),
        ("api.rate_limit_per_minute", 0),
        ("api.api_keys", ["two words"]),
        ("api.api_keys", [{"name": "ann"}]),
        ("models.smollm2-135m.task", "paint"),
        ("models.smollm2-135m.replicas", 0),
        ("models.smollm2-135m.replicas", "4-2"),
        ("models.smollm2-135m.replicas", "2-2"),
        ("models.smollm2-135m.replicas", "0-2"),
        ("models.smollm2-135m.replicas", "1-65"),
        ("models.smollm2-135m.replicas", "1-"),
        ("models.smollm2-135m.context_length", 0),
        ("models.smollm2-135m.aliases", ["auto"]),
        ("models.smollm2-135m.engines", []),
    ],
)
def test_a_value_out_of_range_is_a_fault(faults: Faults, key: str, value: object) -> None:
    found = faults(overrides={key: value})
    assert [fault.key.partition("[")[0] for fault in found] == [key]
    assert "must be" in found[0].problem


@pytest.mark.parametrize("key", NUMBERS, ids=name_of)
def test_every_number_takes_its_bounds_and_nothing_beyond(
    load: Load, faults: Faults, key: Key
) -> None:
    name = with_model(name_of(key))
    # A larger least batch needs a larger batch.
    others = {"optimization.batcher.max_batch_size": LARGEST_INT} if "min_batch" in name else {}
    assert key.kind.limits
    for limit, value in key.kind.limits.items():
        step = 1 if limit == "le" else -1
        beyond = value if limit == "gt" else value + step
        assert [fault.key for fault in faults(overrides={**others, name: beyond})] == [name]
        if limit != "gt":
            load(overrides={**others, name: value})


@pytest.mark.parametrize(
    "source",
    [
        "hf:Qwen/Qwen2.5-0.5B-Instruct",
        "hf:Qwen/Qwen2.5-0.5B-Instruct@main",
        "path:/srv/models/llama.gguf",
        "path:models/a b",
        BUILT_IN_SOURCE,
        "openai:https://models.example/v1",
    ],
)
def test_a_source_of_each_form_is_taken(load: Load, source: str) -> None:
    config = load(overrides={"models.m.source": source}).config
    assert config.models["m"].source == source


@pytest.mark.parametrize(
    "source",
    ["Qwen/Qwen2.5", "hf:Qwen", "hf:", "path:", "pypi:dist", "pypi:dist==1", "openai:host", "s3:b"],
)
def test_a_source_of_no_form_is_a_fault_that_lists_the_forms(faults: Faults, source: str) -> None:
    (fault,) = faults(overrides={"models.m.source": source})
    assert fault.key == "models.m.source"
    for form in (
        "hf:ORG/NAME",
        "path:DIR_OR_GGUF",
        "pypi:DIST==VERSION#FOLDER_OR_FILE",
        "openai:URL",
    ):
        assert form in fault.problem

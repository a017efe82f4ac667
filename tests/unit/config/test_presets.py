from __future__ import annotations

import re
from pathlib import Path

import pytest

from mm_orch.config import Config, load_config
from tests.unit.config.lookup import value_at

ROOT = Path(__file__).parents[3]
PRESETS = ROOT / "config/presets"
DATA = Path(__file__).parent / "data"
PUBLIC = "0.0.0.0"  # noqa: S104 - what two presets are for

KEYS = {
    "engines": "optimization.engine_preference",
    "tp": "optimization.vllm.tensor_parallel_size",
    "batch": "optimization.batcher.max_batch_size",
    "timeout": "optimization.batcher.batch_timeout_ms",
    "min": "optimization.batcher.min_batch_size",
    "cache": "optimization.cache.max_memory_mb",
    "tuner": "optimization.tuner.enabled",
    "trace": "monitoring.tracing.sample_rate",
    "ms": "monitoring.anomaly.latency_threshold_ms",
    "err": "monitoring.anomaly.error_rate_threshold",
    "mem": "monitoring.anomaly.memory_threshold_percent",
    "rps": "monitoring.anomaly.throughput_threshold_rps",
    "queue": "monitoring.server.queue_capacity",
    "drain": "monitoring.server.graceful_shutdown_timeout",
}
# The columns of KEYS, preset by preset.
TABLE: dict[str, tuple[object, ...]] = {
    "single-gpu": (
        "vllm onnx pytorch",
        1,
        16,
        50,
        1,
        2048,
        False,
        0.1,
        2000,
        0.05,
        85,
        0.5,
        50,
        30,
    ),
    "multi-gpu": (
        "vllm deepspeed pytorch",
        4,
        64,
        100,
        4,
        8192,
        True,
        0.05,
        1500,
        0.03,
        90,
        5,
        200,
        60,
    ),
    "cpu-only": (
        "openvino onnx pytorch",
        1,
        4,
        200,
        1,
        2048,
        False,
        1.0,
        5000,
        0.05,
        80,
        0.1,
        20,
        30,
    ),
    "high-throughput": (
        "vllm deepspeed pytorch",
        2,
        128,
        200,
        8,
        4096,
        True,
        0.01,
        3000,
        0.02,
        95,
        10,
        500,
        120,
    ),
    "low-latency": ("vllm onnx pytorch", 1, 8, 10, 1, 2048, False, 0.1, 500, 0.05, 85, 1, 50, 30),
    "kubernetes": (
        "vllm deepspeed pytorch",
        1,
        32,
        50,
        1,
        4096,
        False,
        0.1,
        1000,
        0.05,
        90,
        1,
        100,
        30,
    ),
    "docker": ("vllm pytorch", 1, 16, 50, 1, 2048, False, 0.1, 1000, 0.05, 85, 1, 50, 30),
}
OTHERS: dict[str, dict[str, object]] = {
    "development": {
        "optimization.engine_preference": ("pytorch",),
        "optimization.batcher.enabled": False,
        "optimization.cache.max_memory_mb": 1024,
        "optimization.tuner.enabled": False,
        "monitoring.tracing.enabled": False,
        "monitoring.anomaly.enabled": False,
        "monitoring.prometheus.enabled": True,
        "monitoring.prometheus.host": "127.0.0.1",
        "monitoring.server.enabled": False,
    },
    "single-gpu": {
        "optimization.vllm.dtype": "fp16",
        "optimization.vllm.gpu_memory_utilization": 0.9,
        "optimization.vllm.swap_space": 4,
    },
    "multi-gpu": {
        "optimization.tuner.tuning_interval_seconds": 120,
        "optimization.vllm.gpu_memory_utilization": 0.85,
        "optimization.vllm.swap_space": 8,
        "monitoring.anomaly.alert_rate_limit_seconds": 180,
    },
    "cpu-only": {"optimization.onnx.enable_quantization": True},
    "high-throughput": {
        "optimization.tuner.observation_window_seconds": 600,
        "optimization.tuner.tuning_interval_seconds": 180,
        "optimization.vllm.gpu_memory_utilization": 0.95,
    },
    "low-latency": {
        "optimization.vllm.max_model_len": 2048,
        "optimization.vllm.swap_space": 2,
    },
    "kubernetes": {"monitoring.server.host": PUBLIC, "monitoring.prometheus.host": PUBLIC},
    "docker": {"monitoring.server.host": PUBLIC, "monitoring.prometheus.host": PUBLIC},
}


def load(path: Path, environ: dict[str, str] | None = None) -> Config:
    return load_config(path=path, environ=environ or {}, overrides={}).config


def test_there_are_the_eight_presets() -> None:
    assert {path.stem for path in PRESETS.glob("*.yaml")} == set(OTHERS)


@pytest.mark.parametrize("name", TABLE)
def test_a_preset_holds_the_values_of_its_scenario(name: str) -> None:
    config = load(PRESETS / f"{name}.yaml")
    row = dict(zip(KEYS, TABLE[name], strict=True))
    row["engines"] = tuple(str(row["engines"]).split())
    assert {column: value_at(config, key) for column, key in KEYS.items()} == row
    assert config.monitoring.tracing.enabled
    assert config.monitoring.server.enabled


@pytest.mark.parametrize("name", OTHERS)
def test_a_preset_holds_what_sets_it_apart(name: str) -> None:
    config = load(PRESETS / f"{name}.yaml")
    assert {key: value_at(config, key) for key in OTHERS[name]} == OTHERS[name]


def test_variables_set_the_values_of_the_kubernetes_preset() -> None:
    environ = {
        "TENSOR_PARALLEL_SIZE": "2",
        "MAX_BATCH_SIZE": "8",
        "ENGINE_PREFERENCE": "onnx,pytorch",
        "TUNER_ENABLED": "true",
        "PRELOAD_MODELS": "smollm2-135m",
        "OTLP_ENDPOINT": "",
    }
    config = load(PRESETS / "kubernetes.yaml", environ)
    assert config.optimization.vllm.tensor_parallel_size == 2
    assert config.optimization.deepspeed.tensor_parallel == 2
    assert config.optimization.batcher.max_batch_size == 8
    assert config.optimization.engine_preference == ("onnx", "pytorch")
    assert config.optimization.tuner.enabled
    assert config.monitoring.server.preload_models == ("smollm2-135m",)
    assert not config.monitoring.tracing.enabled


def test_the_guide_names_every_variable_of_the_kubernetes_preset() -> None:
    preset = (PRESETS / "kubernetes.yaml").read_text()
    page = (ROOT / "docs/configuration-examples.md").read_text()
    table = page.partition("\n## Kubernetes\n")[2].partition("\n\nGive the pod")[0]
    names = re.findall(r"`([A-Z_]+)`", table)

    assert len(names) == len(set(names))
    assert set(names) == set(re.findall(r"\$\{([A-Z_]+):", preset))


def test_the_briefs_minimal_configuration_loads_without_a_warning() -> None:
    loaded = load_config(path=DATA / "minimal.yaml", environ={}, overrides={})
    assert loaded.warnings == ()
    assert loaded.config.engines_for("smollm2-135m") == ("pytorch",)


def test_the_briefs_recommended_configuration_loads() -> None:
    loaded = load_config(path=DATA / "recommended.yaml", environ={}, overrides={})
    assert loaded.config.optimization.vllm.dtype == "fp16"
    assert loaded.config.monitoring.tracing.sample_rate == 0.1
    assert loaded.config.monitoring.server.queue_capacity == 50
    assert loaded.warnings == ()


def test_the_example_is_the_defaults_and_gives_no_warning() -> None:
    path = ROOT / "config/optimization.example.yaml"
    loaded = load_config(path=path, environ={}, overrides={})
    assert loaded.warnings == ()
    assert loaded.config == Config()

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from mm_orch.config.environment import path_by_variable
from mm_orch.config.keys import keys_by_path
from tests.unit.config.lookup import value_at

if TYPE_CHECKING:
    from tests.unit.config.conftest import Faults, Load

SHORT_NAMES = [
    ("MUAI_OPT_VLLM_TENSOR_PARALLEL", "2", "optimization.vllm.tensor_parallel_size", 2),
    ("MUAI_OPT_VLLM_GPU_MEMORY", "0.5", "optimization.vllm.gpu_memory_utilization", 0.5),
    ("MUAI_OPT_BATCHER_MAX_SIZE", "7", "optimization.batcher.max_batch_size", 7),
    ("MUAI_OPT_BATCHER_TIMEOUT", "9", "optimization.batcher.batch_timeout_ms", 9),
    ("MUAI_OPT_CACHE_MAX_MEMORY", "64", "optimization.cache.max_memory_mb", 64),
    ("MUAI_OPT_SERVER_ENABLED", "on", "monitoring.server.enabled", True),
    ("MUAI_OPT_SERVER_HOST", "10.0.0.1", "monitoring.server.host", "10.0.0.1"),
    ("MUAI_OPT_SERVER_PORT", "81", "monitoring.server.port", 81),
    ("MUAI_OPT_SERVER_QUEUE_CAPACITY", "5", "monitoring.server.queue_capacity", 5),
    ("MUAI_OPT_SERVER_SHUTDOWN_TIMEOUT", "6", "monitoring.server.graceful_shutdown_timeout", 6),
    ("MUAI_MON_COLLECTION_INTERVAL", "3", "monitoring.collection_interval_seconds", 3),
    ("MUAI_MON_ANOMALY_LATENCY_THRESHOLD", "1e3", "monitoring.anomaly.latency_threshold_ms", 1000),
    ("MUAI_MON_ANOMALY_ERROR_RATE", ".5", "monitoring.anomaly.error_rate_threshold", 0.5),
    ("MUAI_MON_ANOMALY_MEMORY_THRESHOLD", "80", "monitoring.anomaly.memory_threshold_percent", 80),
    ("MUAI_MON_SERVER_ENABLED", "yes", "monitoring.server.enabled", True),
    ("MUAI_MON_SERVER_HOST", "::1", "monitoring.server.host", "::1"),
    ("MUAI_MON_SERVER_PORT", "82", "monitoring.server.port", 82),
    ("MUAI_MON_SERVER_QUEUE_CAPACITY", "8", "monitoring.server.queue_capacity", 8),
    (
        "MUAI_MON_SERVER_PRELOAD_MODELS",
        "smollm2-135m",
        "monitoring.server.preload_models",
        ("smollm2-135m",),
    ),
    ("MUAI_API_HOST", "localhost", "monitoring.server.host", "localhost"),
    ("MUAI_API_PORT", "83", "monitoring.server.port", 83),
    ("MUAI_LOG_LEVEL", "warning", "system.log_level", "WARNING"),
    ("MUAI_DEVICE", "cuda:1", "system.device", "cuda:1"),
    ("MUAI_DATA_DIR", "/data", "system.data_dir", "/data"),
    ("MUAI_STORAGE_URL", "postgresql:///a", "storage.url", SecretStr("postgresql:///a")),
]
CONVERSIONS = [
    ("MUAI_OPT_BATCHER_ENABLED", "FALSE", "optimization.batcher.enabled", False),
    ("MUAI_OPT_BATCHER_ENABLED", "0", "optimization.batcher.enabled", False),
    ("MUAI_OPT_BATCHER_ENABLED", "Yes", "optimization.batcher.enabled", True),
    ("MUAI_OPT_BATCHER_MAX_BATCH_SIZE", " 16 ", "optimization.batcher.max_batch_size", 16),
    ("MUAI_OPT_VLLM_MAX_MODEL_LEN", "", "optimization.vllm.max_model_len", None),
    ("MUAI_STORAGE_URL", "", "storage.url", None),
    ("MUAI_OPT_VLLM_MAX_MODEL_LEN", "null", "optimization.vllm.max_model_len", None),
    ("MUAI_OPT_VLLM_MAX_MODEL_LEN", "512", "optimization.vllm.max_model_len", 512),
    (
        "MUAI_OPT_ENGINE_PREFERENCE",
        "vllm, pytorch,",
        "optimization.engine_preference",
        ("vllm", "pytorch"),
    ),
    ("MUAI_OPT_ENGINE_PREFERENCE", "auto", "optimization.engine_preference", "auto"),
    ("MUAI_OPT_ENGINE_PREFERENCE", "", "optimization.engine_preference", None),
    ("MUAI_OPT_ONNX_OPTIMIZATION_LEVEL", "none", "optimization.onnx.optimization_level", "none"),
    ("MUAI_MON_SERVER_PRELOAD_MODELS", "", "monitoring.server.preload_models", ()),
    ("MUAI_MON_TRACING_ENDPOINT", "http://c:4317", "monitoring.tracing.endpoint", "http://c:4317"),
]


@pytest.mark.parametrize(("name", "text", "key", "value"), [*SHORT_NAMES, *CONVERSIONS])
def test_a_variable_sets_its_key_in_the_keys_type(
    load: Load, name: str, text: str, key: str, value: object
) -> None:
    loaded = load(environ={name: text})
    assert value_at(loaded.config, key) == value
    assert type(value_at(loaded.config, key)) in {type(value), float}
    assert loaded.origins[key] == name
    assert not [warning for warning in loaded.warnings if name in warning]


@pytest.mark.parametrize("section", ["optimization", "monitoring"])
def test_every_key_of_a_section_has_the_variable_that_the_rule_gives(section: str) -> None:
    prefix = {"optimization": "MUAI_OPT_", "monitoring": "MUAI_MON_"}[section]
    for path in keys_by_path():
        if path[0] == section:
            assert path_by_variable()[prefix + "_".join(path[1:]).upper()] == path


@pytest.mark.parametrize(
    ("environ", "keys"),
    [
        ({"MUAI_API_KEY": "one"}, ["one"]),
        ({"MUAI_API_KEY": "a,b"}, ["a,b"]),
        ({"MUAI_API_KEYS": "one, two,"}, ["one", "two"]),
        ({"MUAI_API_KEY": "one", "MUAI_API_KEYS": "two,one"}, ["one", "two"]),
        ({"MUAI_API_KEY": "", "MUAI_API_KEYS": ""}, ["of-the-file"]),
    ],
)
def test_api_keys_come_from_two_variables(
    load: Load, environ: dict[str, str], keys: list[str]
) -> None:
    loaded = load("api: {api_keys: [of-the-file]}", {**environ, "MUAI_ENABLE_AUTH": "true"})
    assert [key.key.get_secret_value() for key in loaded.config.api.api_keys] == keys
    assert loaded.config.api.enable_auth


@pytest.mark.parametrize(
    ("name", "text", "key", "allowed"),
    [
        ("MUAI_OPT_BATCHER_MAX_SIZE", "many", "optimization.batcher.max_batch_size", "at least 1"),
        ("MUAI_OPT_BATCHER_MAX_SIZE", "", "optimization.batcher.max_batch_size", "at least 1"),
        ("MUAI_API_PORT", "80000", "monitoring.server.port", "from 0 to 65535"),
        ("MUAI_MON_SERVER_HOST", "", "monitoring.server.host", "host name"),
        ("MUAI_LOG_LEVEL", "loud", "system.log_level", "DEBUG, INFO"),
        ("MUAI_ENABLE_AUTH", "maybe", "api.enable_auth", "true or false"),
    ],
)
def test_a_bad_value_names_its_variable(
    faults: Faults, name: str, text: str, key: str, allowed: str
) -> None:
    (fault,) = faults(environ={name: text})
    assert fault.origin == name
    assert fault.key == key
    assert allowed in fault.problem
    assert repr(text) in str(fault) or text in str(fault)


def test_two_variables_that_disagree_are_a_fault_that_names_both(faults: Faults) -> None:
    (fault,) = faults(environ={"MUAI_API_PORT": "81", "MUAI_OPT_SERVER_PORT": "82"})
    assert {"MUAI_API_PORT", "MUAI_OPT_SERVER_PORT"} <= {*str(fault).replace("(", ")").split(")")}


def test_two_variables_that_agree_are_fine(load: Load) -> None:
    loaded = load(environ={"MUAI_API_PORT": "81", "MUAI_OPT_SERVER_PORT": " 81"})
    assert loaded.config.monitoring.server.port == 81


def test_an_unknown_variable_is_a_warning_with_the_nearest_name(load: Load) -> None:
    loaded = load(environ={"MUAI_OPT_BATCHER_MAX_SISE": "1", "MUAI_MON_XYZZY": "1", "OTHER": "1"})
    assert loaded.warnings == (
        "The variable MUAI_MON_XYZZY is not one that is read.",
        "The variable MUAI_OPT_BATCHER_MAX_SISE is not one that is read."
        " Did you mean MUAI_OPT_BATCHER_MAX_SIZE?",
    )

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mm_orch.config.keys import Key, dotted, keys_by_path

if TYPE_CHECKING:
    from tests.unit.config.conftest import Load


@pytest.mark.parametrize(
    "text",
    [
        "optimization: {enabled: false}",
        "optimization: {engine_preference: auto}",
        "optimization: {engine_preference: [vllm, onnx, pytorch]}",
        "optimization: {vllm: {enabled: true, dtype: fp16, swap_space: 8}}",
        "optimization: {vllm: {enabled: false, dtype: fp16}}",
        "optimization: {cache: {enabled: false, max_memory_mb: 1}}",
        "optimization: {batcher: {enabled: false, max_batch_size: 2, max_batch_tokens: 9}}",
        "optimization: {batcher: {adaptive_batching: false, batch_timeout_ms: 0}}",
        "optimization: {pytorch: {dtype: bf16, compile: true}, fallback_on_error: false}",
        "optimization: {tuner: {enabled: false}}",
        "monitoring: {enabled: false, prometheus: {port: 1, host: 0.0.0.0, path: /m}}",
        "monitoring: {tracing: {enabled: false, endpoint: 'http://c:4317'}}",
        "monitoring: {tracing: {endpoint: 'http://c:4317', capture_content: true}}",
        "monitoring: {anomaly: {enabled: false}, collection_interval_seconds: 5}",
        "monitoring: {anomaly: {latency_threshold_ms: 5, adaptive: false, min_samples: 5}}",
        "monitoring: {server: {enabled: true, port: 1, queue_capacity: 2}}",
        "models: {m: {source: 'path:/m', aliases: [a], engines: [echo], context_length: 8}}",
        "models: {m: {source: 'path:/m', dtype: fp16, trust_remote_code: true}}",
        "models: {m: {source: 'path:/m', replicas: 2}, n: {source: 'path:/n', replicas: auto}}",
        "models: {m: {source: 'path:/m', dtype: int8}, n: {source: 'path:/n', quantization: int4}}",
        "system: {log_level: DEBUG, log_file: x, log_format: json, device: cpu, data_dir: d}",
        "api: {enable_auth: true, api_keys: [a, {name: n, key: b}], cors_origins: '*'}",
        "api: {max_request_bytes: 1, request_timeout_s: 1, rate_limit_per_minute: 1}",
        "api: {api_keys: [{key: a, priority_max: 1, rate_limit_per_minute: 5}]}",
    ],
)
def test_what_may_well_be_meant_gives_no_warning(load: Load, text: str) -> None:
    assert load(text).warnings == ()


@pytest.mark.parametrize(
    "key",
    [key for key in keys_by_path().values() if key.path[0] != "models"],
    ids=lambda key: dotted(key.path),
)
def test_a_key_set_to_its_default_gives_no_warning(load: Load, key: Key) -> None:
    default = False if key.field.default_factory else key.default
    assert load(overrides={dotted(key.path): default}).warnings == ()


def test_a_preference_without_pytorch_says_that_it_is_tried_last(load: Load) -> None:
    (warning,) = load("optimization: {engine_preference: [vllm]}").warnings
    assert warning == "optimization.engine_preference does not name pytorch; it is tried last."


def test_an_engine_that_looks_like_a_typing_error_is_asked_about(load: Load) -> None:
    (warning,) = load("optimization: {engine_preference: [vlm, pytorch]}").warnings
    assert warning.endswith("Did you mean vllm?")


def test_the_name_of_a_plug_in_gives_no_warning(load: Load) -> None:
    assert load("optimization: {engine_preference: [acme-npu, echo, pytorch]}").warnings == ()


@pytest.mark.parametrize(
    ("settings", "is_warned"),
    [
        ({"monitoring.server.host": "0.0.0.0"}, True),  # noqa: S104 - the bind under test
        ({"monitoring.server.host": "::"}, True),
        ({"monitoring.server.host": "127.0.0.2"}, False),
        ({"monitoring.server.host": "::1"}, False),
        ({"monitoring.server.host": "localhost"}, False),
        ({"monitoring.server.host": "h", "api.enable_auth": True, "api.api_keys": ["k"]}, False),
    ],
)
def test_a_public_server_without_auth_is_warned_about(
    load: Load, settings: dict[str, object], *, is_warned: bool
) -> None:
    warnings = load(overrides={"monitoring.server.enabled": True, **settings}).warnings
    assert bool(warnings) == is_warned
    assert all("without api.enable_auth" in warning for warning in warnings)
    assert load(overrides=settings).warnings == ()


def test_keys_that_nobody_asks_for_are_warned_about(load: Load) -> None:
    (warning,) = load(
        environ={"MUAI_API_KEY": "k"}, overrides={"monitoring.server.enabled": True}
    ).warnings
    assert "api.enable_auth is false" in warning


def test_metrics_on_the_servers_port_are_warned_about(load: Load) -> None:
    (warning,) = load("monitoring: {server: {enabled: true, port: 9090}}").warnings
    assert "are both 9090" in warning


KEYS_IN_FILE = """
    api:
      enable_auth: true
      api_keys:
        - {name: operator, key: of-the-file, admin: true}
"""


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"MUAI_API_KEYS": "a,b"}, "MUAI_API_KEYS"),
        ({"MUAI_API_KEY": "a"}, "MUAI_API_KEY"),
        ({"MUAI_API_KEY": "a", "MUAI_API_KEYS": "b"}, "MUAI_API_KEY and MUAI_API_KEYS"),
    ],
)
def test_variables_that_take_the_place_of_the_files_keys_are_warned_about(
    load: Load, environ: dict[str, str], place: str
) -> None:
    (warning,) = load(KEYS_IN_FILE, environ).warnings
    assert warning.startswith("api.api_keys (")
    assert f"muai.yaml line 4) does not count beside {place}," in warning
    assert warning.endswith("the file's keys are refused, an admin's too.")
    assert "of-the-file" not in warning


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        (KEYS_IN_FILE, {}),
        # How container files pass on a variable that is not set.
        (KEYS_IN_FILE, {"MUAI_API_KEYS": ""}),
        ("api: {enable_auth: true}", {"MUAI_API_KEYS": "a"}),
        ("api: {enable_auth: true, api_keys: []}", {"MUAI_API_KEYS": "a"}),
    ],
)
def test_keys_that_nothing_takes_the_place_of_give_no_warning(
    load: Load, text: str, environ: dict[str, str]
) -> None:
    assert load(text, environ).warnings == ()

"""What a YAML file may hold, and how it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mm_orch.config import Config, load_config
from mm_orch.config.interpolation import escape, interpolate
from mm_orch.core.errors import ConfigError
from tests.unit.config.lookup import value_at

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.config.conftest import Faults, Load


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "---\n",
        "optimization:\n",
        "optimization:\n  batcher:\n",
        "models:\n",
        "{}",
    ],
)
def test_an_empty_file_or_section_is_all_defaults(load: Load, text: str) -> None:
    assert load(text).config == Config()


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("optimization: {batcher: {enabled: off}}", "optimization.batcher.enabled", False),
        ("optimization: {batcher: {enabled: yes}}", "optimization.batcher.enabled", True),
        ("optimization: {batcher: {enabled: 'true'}}", "optimization.batcher.enabled", True),
        ("monitoring: {server: {port: '81'}}", "monitoring.server.port", 81),
        ("monitoring: {server: {port: 0x50}}", "monitoring.server.port", 80),
        ("monitoring: {tracing: {service_name: no}}", "monitoring.tracing.service_name", "no"),
        ("monitoring: {tracing: {service_name: on}}", "monitoring.tracing.service_name", "on"),
        ("monitoring: {tracing: {service_name: 1:30}}", "monitoring.tracing.service_name", "1:30"),
        (
            "monitoring: {tracing: {service_name: 2026-01-31}}",
            "monitoring.tracing.service_name",
            "2026-01-31",
        ),
        ("optimization: {pytorch: {dtype: fp16}}", "optimization.pytorch.dtype", "fp16"),
        ("api: {request_timeout_s: 1e2}", "api.request_timeout_s", 100.0),
        ("api: {request_timeout_s: 5}", "api.request_timeout_s", 5.0),
        ("optimization: {engine_preference: [onnx]}", "optimization.engine_preference", ("onnx",)),
        (
            "optimization: {engine_preference: 'onnx, pytorch'}",
            "optimization.engine_preference",
            ("onnx", "pytorch"),
        ),
        ("system: {log_file: null}", "system.log_file", None),
        ("system: {log_file: ''}", "system.log_file", None),
    ],
)
def test_a_value_means_what_it_looks_like(load: Load, text: str, key: str, value: object) -> None:
    assert value_at(load(text).config, key) == value


def test_anchors_and_merges_work(load: Load) -> None:
    config = load(
        """
        models:
          a: &a {source: 'path:/a', dtype: bf16, context_length: 8}
          b: {<<: *a, source: 'path:/b'}
        """
    ).config
    assert config.models["b"].source == "path:/b"
    assert (config.models["b"].dtype, config.models["b"].context_length) == ("bf16", 8)


def test_a_models_name_may_look_like_a_number(load: Load) -> None:
    assert "1.5" in load("models: {1.5: {source: 'path:/m'}}").config.models


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: b: c", "is not YAML"),
        ("a: [1, 2", "is not YAML"),
        ("port: [${PORT:1}]", "needs quotes"),
        ("- a\n- b", "must be a mapping"),
        ("just text", "must be a mapping"),
        ("a: 1\n---\nb: 2", "second document"),
        ("a: !!python/object/apply:os.system [ls]", "only !!str is allowed"),
        ("a: !!timestamp x", "only !!str is allowed"),
        ("a: &x [*x]", "no anchor &x"),
        ("? [a]\n: b", "not plain text"),
        ("a: {<<: 5}", "not a mapping"),
        ("[" * 2000, "is not YAML"),
        ("a: " + "[" * 200 + "]" * 200, "nested deeper"),
        ("a: \x07", "is not YAML"),
    ],
)
def test_what_is_no_configuration_is_a_fault_with_its_line(
    faults: Faults, text: str, problem: str
) -> None:
    (fault,) = faults(text)
    assert problem in fault.problem


def test_aliases_cannot_blow_the_file_up(faults: Faults) -> None:
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 9)]
    (fault,) = faults("l0: &l0 [x, x, x]\n" + "\n".join(levels))
    assert "larger than" in fault.problem


def test_a_duplicate_key_names_both_lines(faults: Faults) -> None:
    (fault,) = faults("system:\n  device: cpu\n  log_level: INFO\n  device: cuda\n")
    assert fault.key == "system.device"
    assert fault.problem == "is given twice, on lines 2 and 4; keep one"


def test_a_duplicate_model_is_a_fault(faults: Faults) -> None:
    (fault,) = faults("models:\n  m: {source: 'path:/a'}\n  m: {source: 'path:/b'}\n")
    assert fault.key == "models.m"


def test_a_file_that_cannot_be_read_is_a_fault_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"system: {device: \xff}")
    paths_and_problems = {
        tmp_path / "absent.yaml": "does not exist",
        tmp_path: "cannot be read",
        tmp_path / "latin.yaml": "must be UTF-8",
        tmp_path / "nul\0.yaml": "is no path",
    }
    for path, problem in paths_and_problems.items():
        with pytest.raises(ConfigError) as caught:
            load_config(path=path, environ={}, overrides={})
        (fault,) = caught.value.faults
        assert problem in fault.problem
        assert path.name.partition("\0")[0] in fault.value


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfsystem: {device: cpu}")
    assert load_config(path=path, environ={}, overrides={}).config.system.device == "cpu"


@pytest.mark.parametrize(
    ("text", "environ", "result"),
    [
        ("plain", {}, "plain"),
        ("${A}", {"A": "x"}, "x"),
        ("${A:y}", {"A": "x"}, "x"),
        ("${A:y}", {}, "y"),
        ("${A:}", {}, ""),
        ("${A:y}", {"A": ""}, ""),
        ("${A:http://h:4317}", {}, "http://h:4317"),
        ("http://${H:h}:${P:1}/", {"P": "2"}, "http://h:2/"),
        ("$${A}", {"A": "x"}, "${A}"),
        ("$A ${A}", {"A": "${B}"}, "$A ${B}"),
        ("$", {}, "$"),
    ],
)
def test_references_are_replaced_by_variables(
    text: str, environ: dict[str, str], result: str
) -> None:
    replaced = interpolate(text, environ)
    assert replaced.text == result
    assert replaced.problems == ()


@pytest.mark.parametrize("text", ["${", "a$b", "$${A}", "$$${A}", "${A}${B:c}", "$$$"])
def test_an_escaped_text_comes_back_as_it_was(text: str) -> None:
    assert interpolate(escape(text), {"A": "x", "B": "y"}).text == text


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("monitoring: {server: {port: '${PORT:81}'}}", "monitoring.server.port", 81),
        ("monitoring:\n  server:\n    port: ${SET:81}", "monitoring.server.port", 7),
        ("optimization: {batcher: {enabled: '${X:off}'}}", "optimization.batcher.enabled", False),
        ("optimization: {vllm: {max_model_len: '${X:}'}}", "optimization.vllm.max_model_len", None),
        ("api: {request_timeout_s: '${X:1.5}'}", "api.request_timeout_s", 1.5),
        (
            "monitoring: {server: {preload_models: '${X:a,b}'}}\n"
            "models: {a: {source: 'path:/a'}, b: {source: 'path:/${X:b}'}}",
            "monitoring.server.preload_models",
            ("a", "b"),
        ),
        (
            "api: {cors_origins: ['${X:http://a}', 'http://b']}",
            "api.cors_origins",
            ("http://a", "http://b"),
        ),
    ],
)
def test_a_reference_is_converted_to_the_keys_type(
    load: Load, text: str, key: str, value: object
) -> None:
    assert value_at(load(text, {"SET": "7"}).config, key) == value


def test_a_reference_inside_an_api_key_entry_is_replaced(load: Load) -> None:
    config = load("api: {api_keys: [{name: ann, key: '${ANN}'}]}", {"ANN": "k"}).config
    assert config.api.api_keys[0].key.get_secret_value() == "k"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("${ABSENT}", "the variable ABSENT is not set and ${ABSENT} has no default"),
        ("${A:${B:c}}", "must begin ${NAME} or ${NAME:default}"),
        ("${A", "must begin"),
        ("${1A:2}", "must begin"),
    ],
)
def test_a_reference_that_gives_nothing_is_a_fault(
    faults: Faults, value: str, problem: str
) -> None:
    (fault,) = faults(f"system: {{data_dir: '{value}'}}")
    assert fault.key == "system.data_dir"
    assert problem in fault.problem


def test_a_bad_value_from_a_reference_names_line_and_variable(faults: Faults) -> None:
    (fault,) = faults("monitoring:\n  server:\n    port: ${PORT:1}", {"PORT": "high"})
    assert fault.value == "'high'"
    assert fault.origin.endswith("line 3, from PORT")

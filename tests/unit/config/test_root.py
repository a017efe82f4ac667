"""What the whole configuration answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import pytest
from pydantic import ValidationError

from mm_orch.config import Config, ModelConfig
from mm_orch.config.schema import BUILT_IN_MODEL, BUILT_IN_SOURCE

if TYPE_CHECKING:
    from tests.unit.config.conftest import Load


def test_nothing_can_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().optimization.batcher.max_batch_size = 4


def test_the_built_in_model_is_always_there(load: Load) -> None:
    config = load("models: {mine: {source: 'path:/m'}}").config
    assert list(config.models) == ["mine", BUILT_IN_MODEL]
    assert config.models[BUILT_IN_MODEL].source == BUILT_IN_SOURCE


def test_the_built_in_model_needs_no_source_to_be_configured(load: Load) -> None:
    config = load(f"models: {{{BUILT_IN_MODEL}: {{aliases: [small]}}}}").config
    assert config.models[BUILT_IN_MODEL] == ModelConfig(source=BUILT_IN_SOURCE, aliases=("small",))
    assert list(load(f"models:\n  {BUILT_IN_MODEL}:").config.models) == [BUILT_IN_MODEL]


@pytest.mark.parametrize(
    ("text", "default"),
    [
        ("", BUILT_IN_MODEL),
        ("models: {b: {source: 'path:/b'}, a: {source: 'path:/a'}}", "b"),
        (
            "models: {b: {source: 'path:/b'}, a: {source: 'path:/a', aliases: [c]}}\n"
            "monitoring: {server: {preload_models: [c, b]}}",
            "a",
        ),
    ],
    ids=["nothing configured", "file order", "first to preload, by alias"],
)
def test_the_default_model_is_preloaded_or_first(load: Load, text: str, default: str) -> None:
    assert load(text).config.default_model_name == default


@pytest.mark.parametrize(
    ("text", "default", "embedder"),
    [
        ("", BUILT_IN_MODEL, None),
        ("models: {e: {source: 'path:/e', task: embed}}", BUILT_IN_MODEL, "e"),
        (
            "models: {e: {source: 'path:/e', task: embed}, f: {source: 'path:/f', task: embed},"
            " b: {source: 'path:/b'}}\nmonitoring: {server: {preload_models: [f]}}",
            "b",
            "f",
        ),
    ],
    ids=["nothing configured", "one embeds", "first to preload"],
)
def test_each_task_has_a_default_model_of_its_own(
    load: Load, text: str, default: str, embedder: str | None
) -> None:
    config = load(text).config
    assert (config.default_model_name, config.default_embedder_name) == (default, embedder)


def test_models_to_preload_are_told_by_their_names(load: Load) -> None:
    text = "models: {a: {source: 'path:/a', aliases: [c]}}"
    config = load(text, overrides={"monitoring.server.preload_models": ["c", "a"]}).config
    assert config.preload_model_names == ("a",)


@pytest.mark.parametrize(
    ("settings", "engines"),
    [
        ({}, ("openvino", "vllm", "deepspeed", "onnx", "pytorch")),
        ({"optimization.engine_preference": "auto"}, Config().engines_for(BUILT_IN_MODEL)),
        ({"optimization.engine_preference": ["vllm", "pytorch"]}, ("vllm", "pytorch")),
        ({"optimization.engine_preference": ["pytorch", "vllm"]}, ("pytorch", "vllm")),
        (
            {"optimization.engine_preference": ["vllm", "my-engine"]},
            ("vllm", "my-engine", "pytorch"),
        ),
        (
            {
                "optimization.engine_preference": ["vllm", "onnx"],
                "optimization.vllm.enabled": False,
            },
            ("onnx", "pytorch"),
        ),
        ({"optimization.enabled": False}, ("pytorch",)),
        ({"optimization.enabled": False, "models.smollm2-135m.engines": ["vllm"]}, ("pytorch",)),
        ({"models.smollm2-135m.engines": ["echo"]}, ("echo",)),
    ],
)
def test_engines_are_tried_in_the_configured_order(
    load: Load, settings: dict[str, object], engines: tuple[str, ...]
) -> None:
    assert load(overrides=settings).config.engines_for(BUILT_IN_MODEL) == engines


@pytest.mark.parametrize(
    ("of_engine", "of_model", "quantization", "dtype"),
    [
        ("auto", "auto", None, "auto"),
        ("bf16", "auto", None, "bf16"),
        ("bf16", "fp32", None, "fp32"),
        ("int8", "auto", None, "int8"),
        ("fp16", "int4", None, "int4"),
        ("bf16", "auto", "int8", "int8"),
        ("auto", "bf16", "int4", "int4"),
    ],
)
def test_a_models_dtype_goes_before_the_engines(
    load: Load, of_engine: str, of_model: str, quantization: str | None, dtype: str
) -> None:
    settings = {
        "optimization.pytorch.dtype": of_engine,
        f"models.{BUILT_IN_MODEL}.dtype": of_model,
        f"models.{BUILT_IN_MODEL}.quantization": quantization,
    }
    assert load(overrides=settings).config.dtype_for(BUILT_IN_MODEL, "pytorch") == dtype


@pytest.mark.parametrize(
    ("settings", "engine", "dtype"),
    [
        ({}, "onnx", "auto"),
        ({"optimization.onnx.enable_quantization": True}, "onnx", "int8"),
        ({}, "deepspeed", "fp16"),
        ({"optimization.vllm.dtype": "bf16"}, "vllm", "bf16"),
        ({"optimization.openvino.precision": "int4"}, "openvino", "int4"),
        ({f"models.{BUILT_IN_MODEL}.dtype": "fp32"}, "openvino", "fp32"),
        ({}, "my-engine", "auto"),
    ],
)
def test_each_engine_has_a_dtype_of_its_own(
    load: Load, settings: dict[str, object], engine: str, dtype: str
) -> None:
    assert load(overrides=settings).config.dtype_for(BUILT_IN_MODEL, engine) == dtype


def test_an_engine_gets_the_options_of_its_own_section(load: Load) -> None:
    config = load("optimization: {onnx: {optimization_level: basic, python: ~/onnx/python}}").config
    assert config.settings_for("onnx")["optimization_level"] == "basic"
    assert config.settings_for("batcher-like-plug-in") == {}
    assert config.python_by_engine == {"onnx": str(Path("~/onnx/python").expanduser())}


def test_the_data_directory_is_the_users_own_unless_configured(
    load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    own = load().config.system.data_directory
    assert own == platformdirs.user_data_path("muai")
    assert load("system: {data_dir: /srv/muai}").config.system.data_directory == Path("/srv/muai")
    assert load("system: {data_dir: ~/muai}").config.system.data_directory == tmp_path / "muai"


@pytest.mark.parametrize(
    ("section", "folder"),
    [
        ("system: {data_dir: /srv/muai}", "/srv/muai/workflows"),
        ("workflows: {folder: /etc/muai}", "/etc/muai"),
        ("workflows: {folder: ~/mine}", "~/mine"),
        ("workflows: {folder: mine}", "mine"),
    ],
)
def test_workflows_lie_in_the_data_directory_unless_configured(
    load: Load, section: str, folder: str
) -> None:
    assert load(section).config.workflow_folder == Path(folder).expanduser()


def test_models_that_generate_are_known_by_every_spelling(load: Load) -> None:
    config = load(
        "models:"
        " {mine: {source: 'path:/m', aliases: [own]}, vectors: {source: 'path:/v', task: embed}}"
    ).config
    assert set(config.generator_names) == {"mine", "own", BUILT_IN_MODEL}
    environ = {"MUAI_DATA_DIR": "/var/muai"}
    assert load("system: {data_dir: /a}", environ).config.system.data_directory == Path("/var/muai")


def test_tracing_is_on_when_there_is_an_endpoint(load: Load) -> None:
    key = {"monitoring.tracing.endpoint": "http://localhost:4317"}
    assert load(overrides=key).config.monitoring.tracing.enabled
    off = {**key, "monitoring.tracing.enabled": False}
    assert not load(overrides=off).config.monitoring.tracing.enabled


def test_api_keys_are_named_and_do_not_show(load: Load) -> None:
    config = load("api: {api_keys: [alpha, {name: ann, key: beta}, {key: gamma}]}").config
    keys = config.api.api_keys
    assert [key.name for key in keys] == ["key-1", "ann", "key-3"]
    assert [key.key.get_secret_value() for key in keys] == ["alpha", "beta", "gamma"]
    for secret in ("alpha", "beta", "gamma"):
        assert secret not in repr(config)


def test_the_log_level_may_be_written_small(load: Load) -> None:
    assert load("system: {log_level: debug}").config.system.log_level == "DEBUG"


def test_loading_the_configuration_imports_nothing_heavy() -> None:
    script = (
        "import sys; from mm_orch.config import load_config;"
        "load_config(path=None, environ={}, overrides={});"
        "sys.exit(', '.join({'torch', 'numpy', 'transformers', 'asyncio', 'platformdirs'}"
        " & set(sys.modules)) or 0)"
    )
    root = Path(__file__).parents[3]
    result = subprocess.run([sys.executable, "-c", script], cwd=root, check=False)
    assert result.returncode == 0

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mm_orch.config import Config, load_config

if TYPE_CHECKING:
    from tests.unit.config.conftest import Faults, Load

KEY = "optimization.batcher.max_batch_size"
FILE = "optimization: {batcher: {max_batch_size: 2}}"
ENVIRON = {"MUAI_OPT_BATCHER_MAX_BATCH_SIZE": "3"}
OVERRIDES = {KEY: 4}


@pytest.mark.parametrize(
    ("text", "environ", "overrides", "size", "origin"),
    [
        (None, {}, {}, 32, "default"),
        (FILE, {}, {}, 2, "muai.yaml"),
        (FILE, ENVIRON, {}, 3, "MUAI_OPT_BATCHER_MAX_BATCH_SIZE"),
        (FILE, ENVIRON, OVERRIDES, 4, "command line"),
        (None, ENVIRON, OVERRIDES, 4, "command line"),
        (FILE, {}, OVERRIDES, 4, "command line"),
    ],
)
def test_the_command_line_goes_before_variables_file_and_default(
    load: Load,
    text: str | None,
    environ: dict[str, str],
    overrides: dict[str, object],
    size: int,
    origin: str,
) -> None:
    loaded = load(text, environ, overrides)
    assert loaded.config.optimization.batcher.max_batch_size == size
    assert Path(loaded.origins[KEY]).name == origin


def test_a_value_that_does_not_count_is_not_judged(load: Load) -> None:
    # Only what counts is validated: a container's file may hold what a variable replaces.
    text = "optimization: {batcher: {max_batch_size: 0}}"
    assert load(text, ENVIRON).config.optimization.batcher.max_batch_size == 3


def test_both_spellings_of_the_server_are_one_key_in_every_origin(load: Load) -> None:
    text = "optimization: {server: {port: 81, host: 10.0.0.1}}\nmonitoring: {server: {port: 81}}"
    server = load(text, {"MUAI_MON_SERVER_PORT": "82"}).config.monitoring.server
    assert (server.host, server.port) == ("10.0.0.1", 82)
    overrides = {"optimization.server.port": 83}
    loaded = load(text, {"MUAI_MON_SERVER_PORT": "82"}, overrides)
    assert loaded.config.monitoring.server.port == 83
    assert loaded.origins["monitoring.server.port"] == "command line"


def test_two_spellings_of_the_server_that_disagree_are_a_fault_naming_both(faults: Faults) -> None:
    (fault,) = faults("optimization: {server: {port: 81}}\nmonitoring: {server: {port: 82}}")
    assert fault.key == "monitoring.server.port"
    assert "optimization.server.port = 81" in fault.problem


def test_without_a_file_everything_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = load_config(path=None, environ={}, overrides={})
    assert loaded.config == Config()
    assert loaded.warnings == ()
    assert loaded.path is None
    assert set(loaded.origins.values()) == {"default"}


def test_the_file_below_the_working_directory_is_read_without_being_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("config/optimization.yaml")
    path.parent.mkdir()
    path.write_text(FILE)
    loaded = load_config(path=None, environ={}, overrides={})
    assert loaded.config.optimization.batcher.max_batch_size == 2
    assert loaded.path == path
    assert loaded.origins[KEY] == str(path)


def test_a_models_options_can_be_set_by_the_command_line_whatever_its_name_holds(
    load: Load,
) -> None:
    loaded = load(
        "models: {qwen2.5-0.5b: {source: 'path:/q'}}",
        overrides={"models.qwen2.5-0.5b.context_length": 512},
    )
    assert loaded.config.models["qwen2.5-0.5b"].context_length == 512
    assert loaded.origins["models.qwen2.5-0.5b.context_length"] == "command line"
    assert loaded.origins["models.qwen2.5-0.5b.dtype"] == "default"

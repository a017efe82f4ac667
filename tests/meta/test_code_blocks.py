"""Every code block of the documentation is what it says: it parses, and what it names exists."""

from __future__ import annotations

import ast
import asyncio
import importlib
import json
import re
import shlex
import subprocess
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from mm_orch.config import load_config
from mm_orch.config.schema import Config
from mm_orch.workflows.yaml_workflow import Surroundings, read_workflow
from tests.code_blocks import SHELL, Block, commands_in, read_blocks, read_spans
from tests.deploy_files import read_rules
from tests.documented_commands import find_fault
from tests.manifests import CHART
from tests.metrics_contract import PROMISED, sample_names
from tests.promql_names import names_in
from tests.unit.api.described import read_description

if TYPE_CHECKING:
    from pathlib import Path

CHECKED = {*SHELL, "json", "promql", "python", "toml", "yaml"}
ADDRESS = "http://127.0.0.1:8000"
# What variables of blocks stand for, where any word would be refused.
GIVEN = {"MUAI_STORAGE_URL": "postgresql://muai@db/muai"}
# Drawings, and what programs print.
SHOWN = {"", "text"}
SERIES = {name for one in PROMISED for name in sample_names(one)}
RECORDED = {rule["record"] for rule in read_rules() if "record" in rule}


def test_every_block_is_in_a_language_that_is_checked() -> None:
    blocks = read_blocks()

    assert len(blocks) > 60
    assert [str(one) for one in blocks if one.language not in CHECKED | SHOWN] == []


@pytest.fixture(scope="module")
def paths() -> dict[str, Any]:
    """The methods of each path of the server."""
    return dict(asyncio.run(read_description())["paths"])


@pytest.mark.parametrize("block", read_blocks(*SHELL), ids=str)
def test_a_command_can_be_typed(
    block: Block, paths: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    checked = subprocess.run(
        ["bash", "-n"], input=block.script, capture_output=True, text=True, check=False
    )
    commands = commands_in(block.script)
    faults = [fault for words in commands if (fault := find_fault(words, paths))]

    assert checked.returncode == 0, checked.stderr
    assert commands
    assert faults == [], capsys.readouterr().err


def test_a_call_that_a_sentence_names_can_be_typed(
    paths: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    calls = read_spans("muai")
    # What stands for something is typed as such a thing; brackets hold what may be left out.
    typed = [
        (page, shlex.split(re.sub(r"[\[\]]", "", call.replace(" URL", f" {ADDRESS}"))))
        for page, call in calls
    ]

    assert len(calls) > 40
    faults = [(page, fault) for page, words in typed if (fault := find_fault(words, paths))]
    assert faults == [], capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["muai", "--servr"],
        ["muai", "--status", "--models"],
        ["python", "-m", "benchmarks.nothing"],
        ["make", "nothing"],
        ["pip", "install", ".[nothing]"],
        ["scripts/nothing"],
        ["curl", "http://127.0.0.1:8000/nothing"],
        ["curl", "-X", "DELETE", "http://127.0.0.1:8000/health"],
        ["curl", "http://127.0.0.1:8000/api/query", "-d", "{'query': 1}"],
        ["curl", "http://127.0.0.1:9090/nothing"],
        ["mauai", "--server"],
    ],
    ids=" ".join,
)
def test_a_command_that_there_is_not_is_found(command: list[str], paths: dict[str, Any]) -> None:
    assert find_fault(command, paths)


def test_a_line_goes_on_outside_of_single_quotes_alone(paths: dict[str, Any]) -> None:
    url = f"{ADDRESS}/api/query"
    outside = commands_in(f"curl {url} \\\n  -d '{{\"query\": 1}}'\n")
    inside = commands_in(f"curl {url} -d '{{ \\\n  \"query\": 1}}'\n")

    assert [find_fault(words, paths) for words in outside] == [""]
    assert "is no JSON" in "".join(find_fault(words, paths) for words in inside)


@pytest.mark.parametrize("block", read_blocks("yaml"), ids=str)
def test_a_configuration_loads(block: Block, tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all(block.text))
    first = documents[0]

    if "apiVersion" in first:
        assert all({"apiVersion", "kind", "metadata"} <= one.keys() for one in documents)
    elif "steps" in first:
        around = Surroundings(models={"smollm2-135m"})
        assert read_workflow(block.text, origin=str(block), around=around).faults == ()
    else:
        text = block.text
        if "config" in first:  # values of the chart, which hold one
            assert first.keys() <= yaml.safe_load((CHART / "values.yaml").read_text()).keys()
            text, first = yaml.safe_dump(first["config"]), first["config"]
        assert first.keys() <= Config.model_fields.keys()
        file = tmp_path / "muai.yaml"
        file.write_text(text)
        names = re.findall(r"\$\{(\w+)\}", block.text)
        needed = {name: GIVEN.get(name, f"given-{name}") for name in names}
        load_config(path=file, environ=needed, overrides={})


@pytest.mark.parametrize("block", read_blocks("python"), ids=str)
def test_a_program_compiles_and_imports_what_there_is(block: Block) -> None:
    compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module and "mm_orch" in node.module:
            module = importlib.import_module(node.module)
            assert [one.name for one in node.names if not hasattr(module, one.name)] == []


@pytest.mark.parametrize("block", read_blocks("json"), ids=str)
def test_json_parses(block: Block) -> None:
    assert json.loads(block.text)


@pytest.mark.parametrize("block", read_blocks("toml"), ids=str)
def test_toml_parses(block: Block) -> None:
    assert tomllib.loads(block.text)


@pytest.mark.parametrize("block", read_blocks("promql"), ids=str)
def test_a_query_reads_series_that_there_are(block: Block) -> None:
    names = names_in(block.text)

    assert names
    assert names - SERIES - RECORDED == set()

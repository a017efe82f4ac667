"""The benchmark as a user meets it: it starts a real server, measures it and ends it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from mm_orch import __version__
from tests.processes import ServerProcess, clean_environment, run_cli

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mm_orch.models.stored import StoredModel

    Launch = Callable[..., ServerProcess]

pytestmark = pytest.mark.model

# Echo answers at once, so these tests do not depend on speed.
ECHO = {"models": {"smollm2-135m": {"engines": ["echo"]}}, "system": {"log_file": None}}


def write_config(folder: Path) -> str:
    path = folder / "muai.yaml"
    path.write_text(json.dumps(ECHO))
    return str(path)


def test_a_server_is_started_measured_and_ended(
    builtin_model: StoredModel,  # noqa: ARG001 - must be there
    tmp_path: Path,
) -> None:
    config = write_config(tmp_path)

    result = run_cli(
        *("--benchmark", "--quick", "--config", config, "--benchmark-output", "out"),
        directory=tmp_path,
    )

    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "out/benchmark.json").read_text())
    assert content["engine"] == "echo"
    assert content["faults"] == []
    # A busy machine is noted, and no fault of what is tested.
    assert [note for note in content["notes"] if "load generator" not in note] == []
    assert content["peak_memory_bytes"] >= content["ready_memory_bytes"] > 1 << 20
    assert content["ready_s"] > 0
    assert content["versions"] == {"muai": __version__}
    assert content["server_settings"]["models.smollm2-135m.engines"] == "[echo]"
    assert [one["num_failed"] for one in content["arrivals"]] == [0, 0]
    # The conversation so far is in the cache of the second turn on.
    assert min(turn["cached_share"] for turn in content["turns"][1:]) > 0.5
    assert [one["num_clients"] for one in content["runs"]] == [1, 4, 8]
    assert [one["num_output_tokens"] for one in content["runs"]] == [4 * 32, 4 * 32, 8 * 32]
    assert "<svg" in (tmp_path / "out/benchmark.html").read_text()
    # Nothing but the report and the configuration is left in the folder, and no process.
    assert {path.name for path in tmp_path.iterdir()} == {"out", "muai.yaml"}
    assert not any(config in " ".join(cmd) for cmd in command_lines())


def test_a_running_server_is_measured_and_left_running(launch: Launch, tmp_path: Path) -> None:
    server = launch(config=ECHO)

    result = run_cli("--benchmark", "--quick", "--url", server.url, directory=tmp_path)

    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "benchmark-results/benchmark.json").read_text())
    assert (content["engine"], content["url"]) == ("echo", server.url)
    assert server.request("GET", "/ready").status == 200


def test_a_signal_ends_the_server_too(
    builtin_model: StoredModel,  # noqa: ARG001 - must be there
    tmp_path: Path,
) -> None:
    config = write_config(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "mm_orch.main", "--benchmark", "--config", config],
        cwd=tmp_path,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    # The server runs when the first requests are sent.
    assert "starting the server" in process.stderr.readline()
    assert "warming up" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)

    assert process.returncode == 128 + signal.SIGTERM
    assert not any(config in " ".join(cmd) for cmd in command_lines())


def command_lines() -> list[list[str]]:
    return [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]

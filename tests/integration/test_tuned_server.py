"""A real server that tunes itself while it is asked too much."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests import odd_engines as odd
from tests.processes import ROOT, ServerProcess, run_cli, start_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mm_orch.models.stored import StoredModel

pytestmark = pytest.mark.model

MODEL = "smollm2-135m"
NUM_CLIENTS = 12
STEP_S = 0.02
TARGET_MS = 60.0
BATCH_SIZE, QUEUE_CAPACITY = 8, 100
SWITCHED_OFF = {"optimization.batcher.batch_timeout_ms", "optimization.cache.max_memory_mb"}
_PATIENCE_S = 120


@pytest.fixture
def server(
    builtin_model: StoredModel,
    tmp_path: Path,
) -> Iterator[ServerProcess]:
    plug_ins = tmp_path / "plug-ins"
    plug_ins.mkdir()
    switch = odd.install(plug_ins)
    switch.slow_down(STEP_S)
    server = start_server(
        tmp_path,
        config={
            "models": {MODEL: {"source": f"path:{builtin_model.directory}", "engines": ["odd"]}},
            "optimization": {
                "batcher": {"max_batch_size": BATCH_SIZE},
                "tuner": {
                    "enabled": True,
                    "tuning_interval_seconds": 1,
                    "target_p95_ms": TARGET_MS,
                    "enable_timeout_tuning": False,
                    "enable_cache_size_tuning": False,
                },
            },
            "monitoring": {"server": {"queue_capacity": QUEUE_CAPACITY}},
            # What it remembers is the test's alone.
            "system": {"data_dir": str(tmp_path / "data")},
        },
        environment={**switch.environment, "PYTHONPATH": f"{plug_ins}:{ROOT}"},
    )
    yield server
    server.stop()


def ask_until(server: ServerProcess, end_s: float, has_ended: list[bool]) -> list[int]:
    """Ask again and again; return the statuses."""
    statuses = []
    while not has_ended and time.monotonic() < end_s:
        body = {"prompt": [504, 338], "max_tokens": 12, "ignore_eos": True}
        statuses.append(server.request("POST", "/v1/completions", body).status)
    return statuses


def check_status(server: ServerProcess, directory: Path) -> None:
    """The command line tells what the tuner's own path does."""
    port = server.url.rpartition(":")[2]
    while True:
        report = server.request("GET", "/admin/tuner").json
        words, as_json = (
            run_cli("--status", *options, "--port", port, directory=directory)
            for options in ((), ("--json",))
        )
        if server.request("GET", "/admin/tuner").json == report:
            break
    assert json.loads(as_json.stdout)["tuner"] == {
        **report,
        "decisions": report["decisions"][:1],
    }
    lines = words.stdout.splitlines()
    begin = lines.index("Tuner: on, p95 at most 60 ms")
    values = {key.rpartition(".")[2]: value for key, value in report["values"].items()}
    assert lines[begin + 1].startswith("  in force: ")
    for name, value in values.items():
        assert f"{name} {value}" in lines[begin + 1]
    assert lines[begin + 2].startswith("  last decision ")
    assert report["decisions"][0]["rationale"] in lines[begin + 2]
    off = "batch_timeout_ms, max_memory_mb"
    assert lines[begin + 3] == f"  left alone, as the configuration says: {off}"


def test_what_is_decided_is_in_force_and_told_everywhere(
    server: ServerProcess, tmp_path: Path
) -> None:
    end_s = time.monotonic() + _PATIENCE_S
    has_ended: list[bool] = []
    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        clients = [pool.submit(ask_until, server, end_s, has_ended) for _ in range(NUM_CLIENTS)]
        report: dict[str, Any] = {"decisions": []}
        while not any(one["new_values"] for one in report["decisions"]):
            assert time.monotonic() < end_s, server.log
            report = server.request("GET", "/admin/tuner").json
        has_ended.append(True)
        statuses = {status for client in clients for status in client.result()}

    # 503 is what a shorter queue says.
    assert 200 in statuses
    assert statuses <= {200, 503}
    assert report["target_p95_ms"] == TARGET_MS
    decision = next(one for one in reversed(report["decisions"]) if one["new_values"])
    assert not decision["new_values"].keys() & SWITCHED_OFF
    assert decision["rationale"]
    assert decision["new_values"] != decision["old_values"]
    history = server.request("GET", "/admin/config").json["history"]
    tuned = {one["path"]: one["new"] for one in history if one["source"] == "tuner"}
    assert decision["new_values"].keys() <= tuned.keys()
    assert "tuner: " in server.log
    check_status(server, tmp_path)
    page = server.request("GET", "/metrics").body.decode()
    name = next(iter(decision["new_values"])).rpartition(".")[2]
    counted = [
        float(line.rpartition(" ")[2])
        for line in page.splitlines()
        if line.startswith("auto_tuning_decisions_total") and f'"{name}"' in line
    ]
    assert sum(counted) >= 1


def test_without_traffic_nothing_is_changed(server: ServerProcess) -> None:
    # Each window is read, which the gauges tell of from the first one on.
    page = ""
    end_s = time.monotonic() + _PATIENCE_S
    while "auto_tuning_batch_size" not in page:
        assert time.monotonic() < end_s, server.log
        page = server.request("GET", "/metrics").body.decode()

    assert f"auto_tuning_batch_size {float(BATCH_SIZE)}" in page
    assert server.request("GET", "/admin/tuner").json["decisions"] == []
    assert server.request("GET", "/admin/config").json["history"] == []

"""What the system knows of itself outlasts its end; switched off it costs nothing."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.consciousness.assembly import FILE
from mm_orch.storage.outcome_schema import open_outcome_database
from mm_orch.storage.sql_outcomes import SqlOutcomes
from tests.killed_writers import write_and_kill
from tests.outcome_writer import NUM_IN_BATCH, make_batch
from tests.processes import ROOT, clean_environment, run_cli, start_server

if TYPE_CHECKING:
    from tests.processes import ServerProcess

SEED = 43
MAX_BATCHES_BEFORE = 20
# About as long as keeping one batch takes: the kill falls anywhere in that.
MAX_DELAY_S = 0.004
PATIENCE_S = 30
MODEL = "smollm2-135m"


def start(directory: Path, environment: dict[str, str], **consciousness: Any) -> ServerProcess:
    return start_server(
        directory,
        config={"models": {MODEL: {"engines": ["echo"]}}, "consciousness": consciousness},
        environment=environment,
    )


def file_of(environment: dict[str, str]) -> Path:
    return Path(environment["MUAI_DATA_DIR"]) / FILE


def wait_for_outcomes(path: Path, num_runs: int) -> None:
    """Wait until so many runs are on the disk."""
    end_s = time.monotonic() + PATIENCE_S
    while True:
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute("SELECT count(*) FROM outcomes WHERE kind = 'run'")
            if rows.fetchone()[0] >= num_runs:
                return
        assert time.monotonic() < end_s, "the outcomes are not written"
        time.sleep(0.05)


def show(server: ServerProcess) -> dict[str, Any]:
    reply = server.request("GET", "/api/consciousness")
    assert reply.status == 200
    shown: dict[str, Any] = reply.json
    return shown


@pytest.mark.model
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_mood_stage_and_memory_outlast_the_servers_end(
    number: signal.Signals, tmp_path: Path, fresh_data: dict[str, str]
) -> None:
    growing = {"development": {"enabled": True, "min_successes": 2, "min_success_ratio": 0.0}}
    server = start(tmp_path, fresh_data, **growing)
    try:
        for place in range(3):
            asked = server.request(
                "POST",
                "/api/query",
                {
                    "query": f"Question {place}",
                    "workflow_type": "chat_generate",
                    "preferences": {"max_tokens": 4},
                },
            )
            assert asked.status == 200
        feedback = {"request_id": asked.headers["x-request-id"], "score": "up"}
        assert server.request("POST", "/api/feedback", feedback).status == 200
        if number is signal.SIGKILL:
            # What is younger than a second may be lost with the process.
            wait_for_outcomes(file_of(fresh_data), 3)
        before = show(server)
    finally:
        server.stop(number)

    again = start(tmp_path, fresh_data, **growing)
    try:
        after = show(again)
    finally:
        again.stop()

    assert before["development"]["stage"] == after["development"]["stage"] == 1
    assert after["development"]["num_runs"] == 1
    assert after["memory"]["workflows"]["chat_generate"]["num_outcomes"] == 3
    assert after["memory"]["models"][MODEL]["num_outcomes"] == 3
    # It fades a little meanwhile.
    assert 0 < after["mood"]["valence"] <= before["mood"]["valence"]
    if number is signal.SIGTERM:
        assert after["memory"]["workflows"]["chat_generate"]["feedback"] == 1.0


@pytest.mark.model
def test_a_gated_workflow_is_refused_by_a_real_server_until_success_unlocks_it(
    tmp_path: Path, fresh_data: dict[str, str]
) -> None:
    server = start(
        tmp_path,
        fresh_data,
        development={
            "enabled": True,
            "min_successes": 1,
            "min_success_ratio": 0.0,
            "stage_0": ["chat_generate"],
            "stage_1": ["self_description"],
        },
    )
    try:
        asked = {"query": "What can you do?"}
        refused = server.request("POST", "/api/query", asked)
        chat = server.request("POST", "/api/chat", {"message": "Hi"})
        answered = server.request("POST", "/api/query", asked)
    finally:
        server.stop()

    assert (refused.status, refused.json["error"]["code"]) == (403, "workflow_locked")
    assert (chat.status, answered.status) == (200, 200)
    assert f"- {MODEL}: loaded, on echo, the default" in answered.json["result"]


@pytest.mark.model
def test_the_command_line_says_what_the_system_is_without_a_server_and_keeps_nothing(
    tmp_path: Path, fresh_data: dict[str, str]
) -> None:
    answered = run_cli(
        "--workflow",
        "self_description",
        "--json",
        "Which models do you have?",
        directory=tmp_path,
        environment=fresh_data,
    )

    assert answered.returncode == 0, answered.stderr
    told = json.loads(answered.stdout)
    assert f"- {MODEL}: not loaded; the next request for it loads it" in told["text"]
    assert not file_of(fresh_data).exists()


@pytest.mark.model
def test_switched_off_there_is_no_file_and_nothing_to_show(
    tmp_path: Path, fresh_data: dict[str, str]
) -> None:
    server = start(tmp_path, fresh_data, enabled=False)
    try:
        answered = server.request("POST", "/api/query", {"query": "What can you do?"})
        shown = server.request("GET", "/api/consciousness")
        listed = server.request("GET", "/api/workflows")
    finally:
        server.stop()

    assert answered.status == 200
    assert answered.json["workflow_type"] != "self_description"
    assert (shown.status, shown.json["error"]["code"]) == (404, "not_served")
    assert "self_description" not in {one["name"] for one in listed.json["workflows"]}
    assert not (file_of(fresh_data)).exists()


def test_switched_off_nothing_of_it_is_imported() -> None:
    script = """
import asyncio, json, sys
from mm_orch import server
from mm_orch.app import make_tuner, open_runtime
from mm_orch.config import load_config

async def run():
    overrides = {"consciousness.enabled": False}
    config = load_config(path=None, environ={}, overrides=overrides).config
    async with open_runtime(config, is_server=True) as runtime:
        server._make_application(runtime, make_tuner(runtime))
        await runtime.workflows.list_all()

asyncio.run(run())
print(json.dumps(sorted(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set(json.loads(result.stdout.splitlines()[-1]))

    # Goals are what routing goes by, switched on or off; the cascade goes by how sure answers are.
    arithmetic = ("agreement", "calibration", "confidence", "gauge", "goals", "short_answers")
    allowed = {"mm_orch.consciousness", *(f"mm_orch.consciousness.{one}" for one in arithmetic)}
    of_it = {name for name in imported if name.startswith("mm_orch.consciousness")}
    assert of_it - allowed == set()
    assert "mm_orch.storage.sql_outcomes" not in imported


@pytest.mark.parametrize(
    "num_kills", [10, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
async def test_no_batch_is_lost_once_kept_and_none_is_half_kept(
    tmp_path: Path, num_kills: int
) -> None:
    random_ = random.Random(SEED)  # noqa: S311 - not for secrets
    path = tmp_path / FILE

    for run in range(num_kills):
        lines = write_and_kill(
            "tests.outcome_writer",
            path,
            run,
            num_lines=random_.randint(1, MAX_BATCHES_BEFORE),
            delay_s=random_.uniform(0, MAX_DELAY_S),
        )
        num_kept = len(lines)
        assert num_kept > 0
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        database = open_outcome_database(path)
        try:
            remembered = await SqlOutcomes(database).load()
        finally:
            await database.close()
        assert remembered.stage is not None
        # At most one batch was kept and not yet told of.
        num_there = remembered.stage.num_runs + 1
        assert num_there in {num_kept, num_kept + 1}
        last = make_batch(run, num_there - 1)
        assert (remembered.mood, remembered.stage) == (last.mood, last.stage)
        of_run = [one for one in remembered.outcomes if one.workflow == f"workflow-{run}"]
        assert len(of_run) == num_there * NUM_IN_BATCH
        assert [one.feedback for one in of_run[-NUM_IN_BATCH:]] == [
            last.feedback["writer", f"{run}-{num_there - 1}"]
        ] * NUM_IN_BATCH

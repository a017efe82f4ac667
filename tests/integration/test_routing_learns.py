"""A real server learns from feedback which workflow to trust more, and forgets it when told to."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from mm_orch.consciousness.assembly import FILE as OUTCOMES
from mm_orch.routing.assembly import FILE
from mm_orch.routing.feedback_learner import LearnedBiases
from mm_orch.search.settings import BUILT_IN_CORPUS
from mm_orch.storage.outcome_schema import open_outcome_database
from mm_orch.storage.outcomes import Changes, Outcome, StoredMood, StoredStage
from mm_orch.storage.sql_outcomes import SqlOutcomes
from tests.processes import start_server

if TYPE_CHECKING:
    from tests.processes import ServerProcess

pytestmark = pytest.mark.model

PATIENCE_S = 60
NUM_RATED = 40
# The router finds it a little likelier to be one for the web.
QUERY = "Tell me about the Battle of Hastings and its dates"


def start(directory: Path, environment: dict[str, str], *, learns: bool) -> ServerProcess:
    config = {
        "models": {"smollm2-135m": {"engines": ["echo"]}},
        # Of the operator's own: so searches may be chosen.
        "workflows": {"search": {"corpus": str(BUILT_IN_CORPUS)}},
        "routing": {"workflows": {"learn_from_feedback": learns}},
    }
    return start_server(directory, config=config, environment=environment)


async def remember_ratings(path: Path) -> None:
    """Keep, as a server would, that searches were disliked where a chat was nearly as likely."""
    outcomes = tuple(
        Outcome(
            kind="run",
            request_id=f"r{number}",
            caller="",
            workflow="search_qa" if number % 2 else "chat_generate",
            model="smollm2-135m",
            at_s=time.time(),
            is_success=True,
            latency_s=1.0,
            num_tokens=10,
            feedback=-1.0 if number % 2 else 1.0,
            belief_by_workflow={"search_qa": 0.55, "chat_generate": 0.45},
        )
        for number in range(NUM_RATED)
    )
    database = open_outcome_database(path)
    try:
        await SqlOutcomes(database).keep(
            Changes(
                mood=StoredMood(valence=0.0, arousal=0.0, at_s=0.0),
                stage=StoredStage(number=0, num_runs=0, num_successes=0),
                outcomes=outcomes,
            )
        )
    finally:
        await database.close()


def ask(server: ServerProcess) -> tuple[dict[str, Any], str]:
    """Return the choice of the workflow, and the request's id."""
    body = {"query": QUERY, "preferences": {"max_tokens": 8}}
    reply = server.request("POST", "/api/query", body)
    assert reply.status == 200, reply.body
    choice: dict[str, Any] = reply.json["metadata"]["routing"]["workflow"]
    return choice, reply.headers["x-request-id"]


def odds_of(choice: dict[str, Any], field: str) -> float:
    """Return how many times as likely a chat is as a search."""
    value_by_name = {one["workflow"]: one[field] for one in choice["alternatives"]}
    odds: float = value_by_name["chat_generate"] / value_by_name["search_qa"]
    return odds


def test_feedback_changes_what_is_chosen_until_that_is_switched_off(
    tmp_path: Path, fresh_data: dict[str, str]
) -> None:
    data = Path(fresh_data["MUAI_DATA_DIR"])
    asyncio.run(remember_ratings(data / OUTCOMES))
    server = start(tmp_path, fresh_data, learns=True)
    try:
        before, request_id = ask(server)
        feedback = {"request_id": request_id, "score": "up"}
        assert server.request("POST", "/api/feedback", feedback).status == 200
        end_s = time.monotonic() + PATIENCE_S
        while not (data / FILE).exists():
            assert time.monotonic() < end_s, "nothing was learned"
            time.sleep(0.1)
        after, _ = ask(server)
    finally:
        server.stop()
    kept = msgspec.json.decode((data / FILE).read_bytes(), type=LearnedBiases)
    server = start(tmp_path, fresh_data, learns=False)
    try:
        switched_off, _ = ask(server)
    finally:
        server.stop()

    assert kept.num_feedback == NUM_RATED + 1
    assert kept.bias_by_workflow["search_qa"] < 0 < kept.bias_by_workflow["chat_generate"]
    assert odds_of(before, "belief") == odds_of(after, "belief") < 1
    # More than one opinion more would change it by.
    assert odds_of(after, "score") > 1.1 * odds_of(before, "score")
    assert after["workflow"] == "chat_generate"
    assert "How earlier answers did speaks for chat_generate over search_qa." in after["reason"]
    assert odds_of(switched_off, "score") < odds_of(after, "score") / 1.1

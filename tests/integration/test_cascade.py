"""The cascade and confidence with the real model in a real server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import start_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mm_orch.models.stored import StoredModel
    from tests.processes import Reply, ServerProcess

pytestmark = pytest.mark.model

QUESTION = "What is the capital of France?\nGive only the answer."
SHORT = {"max_tokens": 16, "temperature": 0, "seed": 1}


def cascading(**options: object) -> dict[str, Any]:
    return {"workflows": {"cascade": {"enabled": True, "samples": 3, **options}}}


@pytest.fixture(scope="module")
def voting(
    own_data: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    config = cascading(min_confidence=1.0)
    server = start_server(tmp_path_factory.mktemp("voting"), config=config, environment=own_data)
    yield server
    server.stop()


def ask(server: ServerProcess, workflow: str = "cascade", **fields: object) -> Reply:
    body = {"query": QUESTION, "workflow_type": workflow, "preferences": SHORT, **fields}
    return server.request("POST", "/api/query", body)


def remarks_of(metadata: dict[str, Any]) -> dict[str, str]:
    return {one["step"]: one["message"] for one in metadata["remarks"]}


def test_several_answers_of_the_real_model_are_put_to_a_vote(voting: ServerProcess) -> None:
    reply = ask(voting)

    assert reply.status == 200, reply.body
    answer = reply.json
    metadata = answer["metadata"]
    assert answer["status"] == "success"
    assert answer["result"].strip()
    assert 0 < metadata["confidence"] <= 1
    assert "3 more answers are asked for" in remarks_of(metadata)["draft"]
    assert "of 4 answers agree" in remarks_of(metadata)["answer"]
    # All answers count, and of the prompts all but the first are mostly there already.
    usage = metadata["usage"]
    assert usage["completion_tokens"] >= 4
    assert usage["prompt_tokens"] % 4 == 0


def test_a_stream_tells_what_was_decided_and_then_the_answer(voting: ServerProcess) -> None:
    body = {"query": QUESTION, "workflow_type": "cascade", "preferences": SHORT, "stream": True}
    with voting.open_stream(body, "/api/query") as stream:
        events = [json.loads(data) for data in stream]

    ended = {one["step"]: one["message"] for one in events if one.get("status") == "ended"}
    assert list(ended) == ["window", "draft", "answer", "keep"]
    assert "3 more answers are asked for" in ended["draft"]
    pieces = [one["text"] for one in events if set(one) == {"text"}]
    assert "".join(pieces) == events[-1]["result"] != ""
    assert remarks_of(events[-1]["metadata"]) == {step: ended[step] for step in ("draft", "answer")}


def test_a_larger_model_answers_where_the_first_is_not_sure(
    own_data: dict[str, str], builtin_model: StoredModel, tmp_path: Path
) -> None:
    # The same weights under another name: who is asked is what counts here.
    config = cascading(min_confidence=1.0, large_model="big") | {
        "models": {"larger": {"source": f"path:{builtin_model.directory}", "aliases": ["big"]}}
    }
    server = start_server(tmp_path, config=config, environment=own_data)
    try:
        small = {**SHORT, "model": "smollm2-135m"}
        metadata = ask(server, preferences=small).json["metadata"]
    finally:
        server.stop()

    assert metadata["model"] == "larger"
    assert "larger is asked" in remarks_of(metadata)["draft"]
    assert remarks_of(metadata)["answer"] == "larger has answered."
    # A calibration belongs to a source, and nothing was measured of this one.
    assert metadata["calibrated"] is False


def test_a_conversations_answer_tells_a_calibrated_confidence(voting: ServerProcess) -> None:
    metadata = ask(voting, "chat_generate").json["metadata"]

    assert 0 < metadata["confidence"] < 1
    assert (metadata["calibrated"], metadata["unsure"]) == (True, False)


def test_a_long_answer_is_none_of_those_that_were_measured(voting: ServerProcess) -> None:
    preferences = {**SHORT, "max_tokens": 64}

    reply = ask(voting, "chat_generate", query="Tell me a story.", preferences=preferences)

    assert reply.json["metadata"]["calibrated"] is False
    assert 0 < reply.json["metadata"]["confidence"] <= 1


def test_switched_off_it_is_refused_and_not_listed(server: ServerProcess) -> None:
    reply = ask(server)

    assert reply.status == 404
    assert reply.json["error"]["code"] == "not_served"
    assert "workflows.cascade.enabled is false" in reply.json["error"]["message"]
    listed = server.request("GET", "/api/workflows").json["workflows"]
    assert "cascade" not in [one["name"] for one in listed]

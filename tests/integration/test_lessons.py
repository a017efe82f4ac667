"""Lessons by the real model in a real server; and a few of the hundred."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.lesson_judge import judge
from benchmarks.lesson_pack import SUBJECTS, make_lessons, summarise
from mm_orch.workflows.lesson_shapes import SHAPES
from mm_orch.workflows.lesson_wishes import read_wishes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.processes import Reply, ServerProcess

pytestmark = pytest.mark.model

QUERY = "Explain the water cycle with one question."
# Two of those that ask for the fewest exercises.
SHORT = [subject for subject in SUBJECTS if read_wishes(subject).num_exercises <= 2][:2]


def ask(server: ServerProcess, query: str = QUERY, **fields: Any) -> Reply:
    body = {"query": query, "workflow_type": "lesson_pack", **fields}
    return server.request("POST", "/api/query", body)


def test_a_query_is_answered_with_a_lesson(pytorch_server: ServerProcess) -> None:
    reply = ask(pytorch_server, "Explain the water cycle with two questions.")

    assert reply.status == 200, reply.body
    answer = reply.json
    assert answer["status"] == "success"
    assert answer["metadata"]["model"] == "smollm2-135m"
    assert judge(answer["result"], answer["metadata"]["finish_reason"]) == {}
    assert len(json.loads(answer["result"])["exercises"]) == 2
    assert answer["metadata"]["usage"]["completion_tokens"] > 0


def test_the_engine_that_is_preferred_here_or_its_stand_in_writes_a_lesson(
    server: ServerProcess,
) -> None:
    reply = ask(server)

    assert reply.status == 200, reply.body
    assert judge(reply.json["result"]) == {}


def test_a_lesson_belongs_to_its_session(pytorch_server: ServerProcess) -> None:
    chat = pytorch_server.request(
        "POST", "/api/chat", {"message": "Hi", "preferences": {"max_tokens": 4}}
    ).json

    query = "C++ pointers, one exercise"
    reply = ask(pytorch_server, query, session_id=chat["session_id"], preferences={"seed": 3})

    assert judge(reply.json["result"]) == {}
    assert json.loads(reply.json["result"])["language"] == "en"
    assert reply.json["metadata"]["turn_count"] == 2
    session = pytorch_server.request("GET", f"/api/sessions/{chat['session_id']}").json
    assert [one["content"] for one in session["messages"][2:]] == [query, reply.json["result"]]


def test_too_small_a_max_tokens_is_refused_with_the_least(pytorch_server: ServerProcess) -> None:
    reply = ask(pytorch_server, preferences={"max_tokens": 100})

    least = max(piece.max_tokens for piece in SHAPES["en"].all)
    assert reply.status == 400
    assert reply.json["error"]["param"] == "preferences.max_tokens"
    assert f"may take {least} tokens" in reply.json["error"]["message"]


def test_the_lesson_is_in_the_language_of_the_query(pytorch_server: ServerProcess) -> None:
    reply = ask(pytorch_server, "讲一讲浮力, 出一道题", preferences={"seed": 3})

    assert reply.status == 200, reply.body
    assert judge(reply.json["result"]) == {}
    assert json.loads(reply.json["result"])["language"] == "zh"


@pytest.mark.parametrize(
    "subjects",
    [
        pytest.param(SHORT, id="short"),
        pytest.param(SUBJECTS, id="all", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_every_lesson_of_the_benchmark_is_right(subjects: Sequence[str]) -> None:
    made = asyncio.run(make_lessons(subjects, "pytorch", seed=7, at_once=8))

    figures, faults = summarise(made)
    assert faults == []
    assert figures["num_right"] == len(subjects)

"""Lessons by the real model in a real server, through each face; and a few of the hundred."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import openai
import pytest

from benchmarks.lesson_judge import judge
from benchmarks.lesson_pack import SUBJECTS, make_lessons, summarise
from mm_orch.workflows.lesson_shapes import SHAPES
from tests.processes import run_cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.processes import Reply, ServerProcess

pytestmark = pytest.mark.model

QUERY = "Explain the water cycle with one question."


def ask(server: ServerProcess, query: str = QUERY, **fields: Any) -> Reply:
    body = {"query": query, "workflow_type": "lesson_pack", **fields}
    return server.request("POST", "/api/query", body)


@pytest.fixture(scope="module")
def client(pytorch_server: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{pytorch_server.url}/v1", api_key="none", max_retries=0
    ) as client:
        yield client


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


def test_a_stream_tells_each_step_and_then_the_lesson(pytorch_server: ServerProcess) -> None:
    body = {"query": QUERY, "workflow_type": "lesson_pack", "stream": True}

    with pytorch_server.open_stream(body, "/api/query") as stream:
        events = [json.loads(payload) for payload in stream]

    ended = [one["step"] for one in events if one.get("status") == "ended"]
    assert ended == ["begin", "plan", "explain", "exercises", "assemble", "keep"]
    [piece] = [one["text"] for one in events if "text" in one]
    assert events[-1]["result"] == piece
    assert judge(piece) == {}


@pytest.mark.parametrize("is_stream", [False, True])
def test_it_answers_as_a_model_to_openais_client(client: openai.OpenAI, is_stream: bool) -> None:  # noqa: FBT001
    answer = client.chat.completions.create(
        model="workflow/lesson_pack",
        messages=[{"role": "user", "content": "Magnets for beginners, one exercise."}],
        stream=is_stream,
    )

    if isinstance(answer, openai.Stream):
        chunks = [chunk.choices[0] for chunk in answer if chunk.choices]
        text = "".join(one.delta.content or "" for one in chunks)
        reason = chunks[-1].finish_reason
    else:
        [choice] = answer.choices
        text, reason = choice.message.content or "", choice.finish_reason
    assert judge(text, str(reason)) == {}
    lesson = json.loads(text)
    assert lesson["level"] == "beginner"
    assert len(lesson["exercises"]) == 1


def test_it_answers_on_the_command_line(
    pytorch_server: ServerProcess, own_data: dict[str, str], tmp_path: Path
) -> None:
    port = int(pytorch_server.url.rpartition(":")[2])
    config = tmp_path / "client.yaml"
    config.write_text(json.dumps({"monitoring": {"server": {"port": port}}}))

    answered = run_cli(
        *("--config", str(config), "--workflow", "lesson_pack", QUERY),
        directory=tmp_path,
        environment=own_data,
        timeout_s=280,
    )

    assert answered.returncode == 0, answered.stderr
    assert judge(answered.stdout) == {}


def test_a_lesson_belongs_to_its_session(pytorch_server: ServerProcess) -> None:
    chat = pytorch_server.request(
        "POST", "/api/chat", {"message": "Hi", "preferences": {"max_tokens": 4}}
    ).json

    reply = ask(pytorch_server, session_id=chat["session_id"])

    assert reply.json["metadata"]["turn_count"] == 2
    session = pytorch_server.request("GET", f"/api/sessions/{chat['session_id']}").json
    assert [one["content"] for one in session["messages"][2:]] == [QUERY, reply.json["result"]]


def test_too_small_a_max_tokens_is_refused_with_the_least(pytorch_server: ServerProcess) -> None:
    reply = ask(pytorch_server, preferences={"max_tokens": 100})

    least = max(piece.max_tokens for piece in SHAPES["en"].all)
    assert reply.status == 400
    assert reply.json["error"]["param"] == "preferences.max_tokens"
    assert f"may take {least} tokens" in reply.json["error"]["message"]


def test_too_short_a_time_is_told_as_such(pytorch_server: ServerProcess) -> None:
    reply = ask(pytorch_server, preferences={"timeout_s": 0.2})

    assert (reply.status, reply.json["status"]) == (504, "failed")


def test_a_client_that_leaves_ends_what_is_written_for_it(pytorch_server: ServerProcess) -> None:
    body = {"query": QUERY, "workflow_type": "lesson_pack", "stream": True}

    with pytorch_server.open_stream(body, "/api/query") as stream:
        next(payload for payload in stream if '"explain"' in payload)

    # Nothing of it is left that this would wait for.
    reply = pytorch_server.request(
        "POST", "/api/chat", {"message": "Hi", "preferences": {"max_tokens": 4}}
    )
    assert reply.status == 200


@pytest.mark.parametrize("query", ["讲一讲浮力, 出一道题", "C++ pointers, one exercise"])
def test_the_lesson_is_in_the_language_of_the_query(
    pytorch_server: ServerProcess, query: str
) -> None:
    reply = ask(pytorch_server, query, preferences={"seed": 3})

    assert reply.status == 200, reply.body
    assert judge(reply.json["result"]) == {}
    assert json.loads(reply.json["result"])["language"] == ("en" if query[0] == "C" else "zh")


@pytest.mark.parametrize(
    "num_lessons", [2, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
def test_every_lesson_of_the_benchmark_is_right(num_lessons: int) -> None:
    made = asyncio.run(make_lessons(SUBJECTS[:num_lessons], "pytorch", seed=7, at_once=8))

    figures, faults = summarise(made)
    assert faults == []
    assert figures["num_right"] == num_lessons

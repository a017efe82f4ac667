"""Questions to workflows over HTTP, whole and streamed."""

from __future__ import annotations

import asyncio
import copy
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.api.schemas import workflow_answers as shapes
from mm_orch.api.schemas.routing import RouteEvent
from mm_orch.api.schemas.workflow import MAX_QUERY_CHARS
from mm_orch.api.settings import ApiKey, ApiSettings
from mm_orch.core.errors import (
    ContextLengthError,
    EngineFailedError,
    InvalidValueError,
    ModelNotFoundError,
    QueueFullError,
    RequestError,
    UnsupportedError,
)
from mm_orch.core.generation import FinishReason
from mm_orch.workflows.running import WorkflowSettings
from tests.unit.api.face import CHAT, Face, assert_fits, turns_asked
from tests.unit.api.scripted_generator import HOLD, ScriptedGenerator, say, think
from tests.unit.api.served import PATIENCE_S, call, serve
from tests.unit.storage.scene import FILE

if TYPE_CHECKING:
    from pathlib import Path

    import httpx2

    from mm_orch.storage.sql_sessions import SqlSessions

NAME = "workflow/chat_generate"
SHAPES = {"step": shapes.StepEvent, "piece": shapes.PieceEvent, "result": shapes.QueryAnswer}


async def test_a_query_is_answered_with_who_answered_and_what_it_took(
    store: SqlSessions,
) -> None:
    face = Face(ScriptedGenerator(say("Blue", reason=FinishReason.LENGTH)), sessions=store)

    response = await face.post(
        "/api/query",
        query="Which colour?",
        context="The sky is blue.",
        workflow_type="chat_generate",
        preferences={"model": "tiny", "max_tokens": 5, "temperature": 0.5, "priority": 2},
    )

    answer = response.json()
    assert response.status_code == 200
    assert_fits(answer, shapes.QueryAnswer)
    assert (answer["result"], answer["status"]) == ("Blue", "success")
    assert answer["workflow_type"] == "chat_generate"
    assert answer["request_id"] == response.headers["x-request-id"]
    metadata = answer["metadata"]
    assert (metadata["model"], metadata["engine"]) == ("small", "scripted")
    assert (metadata["finish_reason"], metadata["usage"]["total_tokens"]) == ("length", 8)
    assert metadata["processing_time"] > 0
    assert (metadata["session_id"], metadata["turn_count"]) == (None, None)
    [request] = face.generator.requests
    assert (request.model, request.priority, request.options.max_tokens) == ("tiny", 2, 5)
    [[system, question]] = turns_asked(face)
    assert system[0] == "system"
    assert "The sky is blue." in system[1]
    assert question == ("user", "Which colour?")
    # Without a session nothing is kept.
    assert await store.list_sessions("", limit=9) == ()


async def test_a_streamed_query_tells_steps_and_pieces_and_ends_with_the_result(
    store: SqlSessions,
) -> None:
    face = Face(ScriptedGenerator(say("Hel", "lo")), sessions=store)
    begun = (await face.post("/api/chat", message="Hi")).json()

    response = await face.post(
        "/api/query", query="Again", stream=True, session_id=begun["session_id"]
    )

    events = named_events(response)
    assert [name for name, _ in events] == [
        "route",
        *["step"] * 3,
        *["piece"] * 2,
        *["step"] * 3,
        "result",
    ]
    told = [(event["step"], event["status"]) for name, event in events if name == "step"]
    assert told == [
        (step, status) for step in ("window", "answer", "keep") for status in ("started", "ended")
    ]
    for name, event in events:
        schema = {
            "route": RouteEvent,
            "step": shapes.StepEvent,
            "piece": shapes.PieceEvent,
            "result": shapes.QueryAnswer,
        }
        assert_fits(event, schema[name])
    result = events[-1][1]
    assert result["result"] == "".join(event["text"] for name, event in events if name == "piece")
    assert (result["metadata"]["session_id"], result["metadata"]["turn_count"]) == (
        begun["session_id"],
        2,
    )


def named_events(response: httpx2.Response) -> list[tuple[str, Any]]:
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    events = []
    for part in response.text.split("\n\n")[:-1]:
        name, data = part.split("\n")
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


async def test_a_turn_that_cannot_be_stored_makes_the_query_partial_and_the_chat_fail(
    store: SqlSessions, tmp_path: Path
) -> None:
    face = Face(sessions=store)
    session_id = (await face.post("/api/chat", message="Hi")).json()["session_id"]
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON messages"
            " BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )

    query = await face.post("/api/query", query="More", session_id=session_id)
    chat = await face.post("/api/chat", message="More", session_id=session_id)

    assert (query.json()["result"], query.json()["status"]) == ("Hello world", "partial")
    [failed] = query.json()["metadata"]["failed_steps"]
    assert failed["step"] == "keep"
    assert "disk full" in failed["message"]
    assert (chat.status_code, chat.json()["error"]["code"]) == (500, "storage_failed")
    assert len((await store.read("", session_id)).turns) == 1


async def test_what_a_model_thinks_is_an_event_of_its_own_and_no_part_of_the_result() -> None:
    face = Face(ScriptedGenerator([*think("Hm", "m."), *say("Yes.")]))

    events = named_events(await face.post("/api/query", query="Hi", stream=True))

    thoughts = [event for name, event in events if name == "thought"]
    for event in thoughts:
        assert_fits(event, shapes.ThoughtEvent)
    assert [event["text"] for event in thoughts] == ["Hm", "m."]
    result = events[-1][1]
    assert_fits(result, shapes.QueryAnswer)
    assert (result["result"], result["metadata"]["reasoning"]) == ("Yes.", "Hmm.")


FAILING = {
    "engine": ([*say("Hel")[:1], EngineFailedError("broken")], 503, "engine_failed"),
    "fault": ([ValueError("secret")], 500, "workflow_failed"),
}


@pytest.mark.parametrize(("script", "status", "code"), FAILING.values(), ids=FAILING)
async def test_a_query_that_fails_says_so_with_its_status_and_in_its_body(
    script: list[Any], status: int, code: str
) -> None:
    face = Face(ScriptedGenerator(script))

    whole = await face.post("/api/query", query="Hi")
    streamed = named_events(await face.post("/api/query", query="Hi", stream=True))

    assert whole.status_code == status
    for body in (whole.json(), streamed[-1][1]):
        assert_fits(body, shapes.FailedQuery)
        assert (body["status"], body["error"]["code"]) == ("failed", code)
        assert "secret" not in str(body)
    assert streamed[-1][0] == "error"
    assert ("answer", "failed") in {
        (event.get("step"), event.get("status")) for _, event in streamed
    }


async def test_a_full_queue_is_told_with_retry_after() -> None:
    face = Face(ScriptedGenerator(refusal=QueueFullError("full", retry_after_s=3)))

    answers = [
        await face.post("/api/query", query="Hi"),
        await face.post(CHAT, model=NAME, messages=[{"role": "user", "content": "Hi"}]),
    ]

    assert [(one.status_code, one.headers["retry-after"]) for one in answers] == [(503, "3")] * 2


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/api/query", {}, "query"),
        ("/api/query", {"query": ""}, "query"),
        ("/api/query", {"query": "x" * (MAX_QUERY_CHARS + 1)}, "query"),
        ("/api/query", {"query": "x", "session_id": "a b"}, "session_id"),
        ("/api/query", {"query": "x", "preferences": {"max_tokens": 0}}, "preferences.max_tokens"),
        ("/api/query", {"query": "x", "preferences": {"colour": 1}}, "preferences.colour"),
        ("/api/query", {"query": "x", "what": 1}, "what"),
        ("/api/chat", {"message": ""}, "message"),
        ("/api/chat", {"message": "x", "stream": True}, "stream"),
    ],
)
async def test_a_wrong_field_is_refused_by_its_name(
    path: str, body: dict[str, Any], param: str
) -> None:
    face = Face()

    response = await face.call("POST", path, body)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert not face.generator.requests


@pytest.mark.parametrize(("path", "field"), [("/api/query", "query"), ("/api/chat", "message")])
@pytest.mark.parametrize(
    ("refusal", "param"),
    [
        (UnsupportedError("no", param="messages"), None),
        (ContextLengthError("no", param="messages"), None),
        (ModelNotFoundError("no", param="model"), "preferences.model"),
        (InvalidValueError("no", param="temperature"), "preferences.temperature"),
        (InvalidValueError("no", param="preferences.max_tokens"), "preferences.max_tokens"),
        (InvalidValueError("no"), None),
    ],
)
async def test_what_is_refused_further_in_is_told_by_the_bodys_own_fields(
    store: SqlSessions, path: str, field: str, refusal: RequestError, param: str | None
) -> None:
    expected = field if refusal.param == "messages" else param
    # Each is told several times, and changed when it is.
    face = Face(ScriptedGenerator([copy.copy(refusal)]), sessions=store)

    response = await face.post(path, **{field: "Hi"})

    error = response.json()["error"]
    assert (response.status_code < 500, error["param"]) == (True, expected)
    assert "/v1/" not in error["message"]
    if path == "/api/query":
        face.generator.script = [copy.copy(refusal)]
        _, told = named_events(await face.post(path, query="Hi", stream=True))[-1]
        assert told["error"]["param"] == expected


async def test_a_priority_over_the_keys_is_told_by_the_bodys_own_field() -> None:
    keys = (ApiKey(name="low", key="k", priority_max=1),)
    face = Face(settings=ApiSettings(enable_auth=True, api_keys=keys))

    response = await face.post("/api/query", "k", query="Hi", preferences={"priority": 2})

    assert response.status_code == 400
    assert response.json()["error"]["param"] == "preferences.priority"


async def test_the_longest_query_is_taken() -> None:
    assert (await Face().post("/api/query", query="x" * MAX_QUERY_CHARS)).status_code == 200


async def test_an_unknown_workflow_is_refused_with_those_there_are() -> None:
    face = Face()
    asked = [
        await face.post("/api/query", query="Hi", workflow_type="rag"),
        await face.post(CHAT, model="workflow/rag", messages=[{"role": "user", "content": "x"}]),
    ]

    assert [one.status_code for one in asked] == [404, 404]
    errors = [one.json()["error"] for one in asked]
    assert [error["param"] for error in errors] == ["workflow_type", "model"]
    for error in errors:
        assert error["message"].startswith(
            "No workflow is named 'rag'. Known: cascade, chat_generate, "
        )


async def test_workflows_that_are_switched_off_are_not_served() -> None:
    face = Face(workflow_settings=WorkflowSettings(is_enabled=False))
    asked = [
        await face.post("/api/query", query="Hi"),
        await face.post("/api/chat", message="Hi"),
        await face.post(CHAT, model=NAME, messages=[{"role": "user", "content": "x"}]),
        # No more are the sessions that they would go on with.
        await face.call("GET", "/api/sessions"),
        await face.call("GET", "/api/sessions/s"),
        await face.call("DELETE", "/api/sessions/s"),
        await face.call("GET", "/api/export/sessions"),
        await face.call("POST", "/api/import/sessions", content=b"x"),
    ]

    told = [(one.status_code, one.json()["error"]["code"]) for one in asked]
    assert told == [(404, "not_served")] * len(asked)


async def test_a_deadline_ends_a_query_that_hangs() -> None:
    face = Face(ScriptedGenerator([HOLD]))

    response = await face.post("/api/query", query="Hi", preferences={"timeout_s": 0.05})

    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert face.generator.num_open == 0


async def test_a_client_that_leaves_ends_the_step_that_runs() -> None:
    face = Face(ScriptedGenerator([*say("Hel")[:1], HOLD]))
    body = {"query": "Hi", "stream": True}

    async with serve(face.app) as port, call(port) as caller:
        caller.send("/api/query", body)
        assert (await caller.read_head()).status == 200
        async for part in caller.read_parts():
            if b"event: piece" in part:
                break
        assert face.generator.num_open == 1
        await caller.leave()
        async with asyncio.timeout(PATIENCE_S):
            await face.generator.has_emptied.wait()

    assert face.generator.num_open == 0


async def test_the_workflows_are_listed_with_their_steps() -> None:
    listed = await Face().call("GET", "/api/workflows")
    off = Face(workflow_settings=WorkflowSettings(is_enabled=False))

    assert_fits(listed.json(), shapes.WorkflowList)
    by_name = {one["name"]: one for one in listed.json()["workflows"]}
    assert list(by_name) == sorted(by_name)
    chat = by_name["chat_generate"]
    assert chat["summary"][-1] == "."
    assert [(one["name"], one["is_optional"]) for one in chat["steps"]] == [
        ("window", False),
        ("answer", False),
        ("keep", True),
    ]
    assert (await off.call("GET", "/api/workflows")).json() == {"workflows": []}

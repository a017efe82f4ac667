"""What the system knows of itself, over HTTP: shown, asked for, and changed by what happens."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from mm_orch.api.schemas.mind import FeedbackAnswer
from mm_orch.api.schemas.workflow_answers import QueryAnswer
from mm_orch.api.settings import ApiKey, ApiSettings
from mm_orch.core.errors import EngineFailedError
from mm_orch.core.generation import ChatPrompt
from mm_orch.core.mind_report import MindReport
from mm_orch.workflows.registry import WorkflowRegistry
from mm_orch.workflows.routes import RoutingSources
from tests.unit.api.face import CHAT, HELLO, Face, assert_fits, events_of, turns_asked
from tests.unit.api.scripted_generator import ScriptedGenerator
from tests.unit.consciousness.scene import SETTINGS, Scene, gating, ran
from tests.unit.workflows.scene import make_registry

if TYPE_CHECKING:
    from mm_orch.storage.sql_sessions import SqlSessions

KEYED = ApiSettings(
    enable_auth=True, api_keys=(ApiKey(name="alice", key="a"), ApiKey(name="bob", key="b"))
)
MOVED = replace(SETTINGS, has_emotions=True)
LOCKED = gating(rules=replace(SETTINGS.rules, workflows_by_stage=(("self_description",), ("*",))))
CONVERSATION = {"model": "workflow/chat_generate", **HELLO}
CAREFUL = "Answer carefully, and say what you are not sure of."


async def make_sad_face(**fields: Any) -> Face:
    """Return a face whose mind has seen nothing but failures."""
    face = Face(ScriptedGenerator([EngineFailedError("broken")]), mind=Scene(MOVED).mind, **fields)
    for _ in range(9):
        assert (await face.post("/api/query", query="Hi")).status_code == 503
    face.generator.script = None
    face.generator.requests.clear()
    return face


async def test_the_whole_mind_is_shown() -> None:
    face = Face(mind=Scene().mind)
    await face.post("/api/query", query="Hi")

    answer = await face.call("GET", "/api/consciousness")

    report = msgspec.convert(answer.json(), MindReport)
    assert msgspec.json.decode(msgspec.json.encode(report)) == answer.json()
    assert report.self_model.default_model == "small"
    assert report.memory.workflows["chat_generate"].num_outcomes == 1


async def test_whoever_may_ask_may_see_it() -> None:
    face = Face(settings=KEYED, mind=Scene().mind)

    refused = await face.call("GET", "/api/consciousness")
    shown = await face.call("GET", "/api/consciousness", headers={"X-API-Key": "b"})

    assert (refused.status_code, shown.status_code) == (401, 200)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/consciousness", None),
        ("POST", "/api/feedback", {"request_id": "r", "score": 1}),
    ],
)
async def test_switched_off_the_answer_says_what_to_switch_on(
    method: str, path: str, body: object
) -> None:
    answer = await Face().call(method, path, body)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404, "not_served")
    assert "consciousness.enabled is false" in error["message"]


@pytest.mark.parametrize(("given", "score"), [("up", 1.0), ("down", -1.0), (0.25, 0.25), (-1, -1)])
async def test_feedback_is_taken_for_an_own_request(given: object, score: float) -> None:
    face = Face(mind=Scene().mind)
    asked = await face.post("/api/query", query="Hi")

    answer = await face.post("/api/feedback", request_id=asked.headers["x-request-id"], score=given)

    assert answer.status_code == 200
    assert_fits(answer.json(), FeedbackAnswer)
    assert answer.json()["score"] == score
    shown = (await face.call("GET", "/api/consciousness")).json()
    assert shown["memory"]["workflows"]["chat_generate"]["feedback"] == score


async def test_feedback_on_an_unknown_request_and_on_anothers_is_refused_alike() -> None:
    face = Face(settings=KEYED, mind=Scene().mind)
    asked = await face.post("/api/query", "a", query="Hi")
    request_id = asked.headers["x-request-id"]

    answers = [
        await face.post("/api/feedback", "b", request_id=request_id, score="down"),
        await face.post("/api/feedback", "a", request_id="none", score="down"),
    ]

    assert [one.status_code for one in answers] == [404, 404]
    errors = [one.json()["error"] for one in answers]
    assert {(error["code"], error["param"]) for error in errors} == {
        ("request_not_found", "request_id")
    }


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"score": 1}, "request_id"),
        ({"request_id": "", "score": 1}, "request_id"),
        ({"request_id": "r"}, "score"),
        ({"request_id": "r", "score": 1.5}, "score"),
        ({"request_id": "r", "score": "good"}, "score"),
        ({"request_id": "r", "score": 1, "text": "nice"}, "text"),
    ],
)
async def test_feedback_that_means_nothing_is_refused_by_name(
    body: dict[str, Any], param: str
) -> None:
    answer = await Face(mind=Scene().mind).call("POST", "/api/feedback", body)

    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["param"] or "").startswith(param)


@pytest.mark.parametrize("workflow", [None, "auto", "self_description"])
async def test_a_question_about_the_system_is_answered_by_facts_and_no_model(
    workflow: str | None,
) -> None:
    face = Face(mind=Scene().mind)

    response = await face.post("/api/query", query="What can you do?", workflow_type=workflow)

    answer = response.json()
    assert_fits(answer, QueryAnswer)
    assert answer["workflow_type"] == "self_description"
    assert answer["result"].startswith("I am MuAI 1.2.3")
    assert "- large: failing, no memory" in answer["result"]
    assert face.generator.requests == []
    assert (answer["metadata"]["model"], answer["metadata"]["effects"]) == ("", [])
    if workflow != "self_description":
        choice = answer["metadata"]["routing"]["workflow"]
        assert choice["reason"] == "The question is about this system itself."


async def test_it_is_a_model_and_a_stream_too() -> None:
    face = Face(mind=Scene().mind)
    asked = {
        "model": "workflow/self_description",
        "messages": [{"role": "user", "content": "你有哪些模型？"}],  # noqa: RUF001 - Chinese
    }

    whole = await face.call("POST", CHAT, asked)
    parts = events_of(await face.call("POST", CHAT, asked | {"stream": True}))

    text = whole.json()["choices"][0]["message"]["content"]
    assert "small" in text
    assert "已加载" in text
    chunks = [json.loads(part) for part in parts[:-1]]
    streamed = "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks)
    assert streamed == text
    assert whole.json()["usage"]["total_tokens"] == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"query": "What can you do?", "workflow_type": "chat_generate"},
        {"query": "What can you do?", "context": "You are a carpenter."},
        {"query": "What can you do about rust?"},
    ],
)
async def test_what_asks_for_more_or_for_another_is_left_to_a_model(
    fields: dict[str, Any],
) -> None:
    face = Face(mind=Scene().mind)

    response = await face.post("/api/query", **fields)

    assert response.json()["workflow_type"] == "chat_generate"
    assert len(face.generator.requests) == 1


async def test_a_session_goes_on_with_its_model(store: SqlSessions) -> None:
    face = Face(sessions=store, mind=Scene().mind)
    session_id = (await face.post("/api/chat", message="Hi")).json()["session_id"]

    response = await face.post("/api/query", query="What can you do?", session_id=session_id)

    assert response.json()["workflow_type"] == "chat_generate"


async def test_asked_for_by_name_its_turn_is_stored(store: SqlSessions) -> None:
    face = Face(sessions=store, mind=Scene().mind)
    session_id = (await face.post("/api/chat", message="Hi")).json()["session_id"]

    response = await face.post(
        "/api/query",
        query="Are you busy?",
        session_id=session_id,
        workflow_type="self_description",
    )

    assert response.json()["metadata"]["turn_count"] == 2


async def test_without_a_mind_there_is_no_such_workflow() -> None:
    face = Face()

    named = await face.post("/api/query", query="Hi", workflow_type="self_description")
    asked = await face.post("/api/query", query="What can you do?")

    assert (named.status_code, named.json()["error"]["code"]) == (404, "workflow_not_found")
    assert asked.json()["workflow_type"] == "chat_generate"


async def test_where_nobody_knows_the_system_the_workflow_says_so() -> None:
    # As if a plug-in had brought it.
    face = Face(registry=WorkflowRegistry(knows_itself=True))

    answer = await face.post("/api/query", query="Hi", workflow_type="self_description")

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_served")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/query", {"query": "Hi", "workflow_type": "chat_generate"}),
        ("/api/chat", {"message": "Hi"}),
        (CHAT, CONVERSATION),
        (CHAT, CONVERSATION | {"stream": True}),
    ],
)
async def test_a_gated_workflow_is_refused_on_every_path(path: str, body: dict[str, Any]) -> None:
    face = Face(mind=Scene(LOCKED).mind)

    answer = await face.call("POST", path, body)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (403, "workflow_locked")
    assert error["type"] == "permission_error"
    for part in ("chat_generate", "stage 1", "stage 0", "consciousness.development.enabled"):
        assert part in error["message"]
    assert face.generator.requests == []


async def test_a_gated_workflow_is_not_chosen_until_it_is_unlocked() -> None:
    mind = Scene(gating()).mind
    face = Face(registry=make_registry(), mind=mind, routing_sources=RoutingSources(advisor=mind))
    quiz = {"query": "Quiz me on European capitals."}

    before = (await face.post("/api/query", **quiz)).json()
    for _ in range(10):
        mind.observe(ran())
    after = (await face.post("/api/query", **quiz)).json()

    assert (before["workflow_type"], after["workflow_type"]) == ("chat_generate", "lesson_pack")
    assert {"name": "lesson_pack", "reason": "its stage of development is not reached"} in before[
        "metadata"
    ]["routing"]["workflow"]["ruled_out"]


async def test_a_marked_mood_is_set_and_told() -> None:
    face = await make_sad_face()

    answer = await face.post("/api/query", query="Hi", preferences={"max_tokens": 5})

    assert_fits(answer.json(), QueryAnswer)
    instruction, temperature = answer.json()["metadata"]["effects"]
    assert (instruction["what"], instruction["value"]) == ("instruction", CAREFUL)
    assert (temperature["what"], 0.9 <= temperature["value"] < 1) == ("temperature", True)
    [request] = face.generator.requests
    assert request.options.temperature == temperature["value"]
    assert request.options.max_tokens == 5
    assert turns_asked(face) == [[("system", CAREFUL), ("user", "Hi")]]


async def test_on_other_paths_a_header_and_the_note_tell_of_it(store: SqlSessions) -> None:
    face = await make_sad_face(sessions=store)

    message = await face.post("/api/chat", message="Hi")
    whole = await face.call("POST", CHAT, CONVERSATION)
    streamed = await face.call("POST", CHAT, CONVERSATION | {"stream": True})
    query = await face.post("/api/query", query="Hi", stream=True)

    for answer in (message, whole, streamed, query):
        told = answer.headers["x-muai-effects"]
        assert told.startswith(f'instruction="{CAREFUL}"; by=mood; reason="valence -')
        assert 'temperature="0.9' in told
    assert [one["what"] for one in whole.json()["muai"]["effects"]] == [
        "instruction",
        "temperature",
    ]
    stored = await store.read("", message.json()["session_id"])
    # What the mood added is no part of the conversation.
    assert [turn.user.content for turn in stored.turns] == ["Hi"]


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [
        ({"preferences": {"temperature": 0.5}}, ["instruction"]),
        ({"context": "The sky is blue."}, ["temperature"]),
        # A seed asks for the same answer each time.
        ({"preferences": {"seed": 1}}, []),
    ],
)
async def test_what_the_caller_has_set_stays(fields: dict[str, Any], kinds: list[str]) -> None:
    face = await make_sad_face()

    answer = await face.post("/api/query", query="Hi", workflow_type="chat_generate", **fields)

    assert [one["what"] for one in answer.json()["metadata"]["effects"]] == kinds
    [request] = face.generator.requests
    assert isinstance(request.prompt, ChatPrompt)
    if "context" in fields:
        assert CAREFUL not in request.prompt.messages[0].content
    if "preferences" in fields:
        assert request.options.temperature == fields["preferences"].get("temperature")


async def test_a_request_that_names_its_model_is_left_as_it_is() -> None:
    face = await make_sad_face()

    answer = await face.chat()

    [request] = face.generator.requests
    assert request.options.temperature is None
    assert "x-muai-effects" not in answer.headers

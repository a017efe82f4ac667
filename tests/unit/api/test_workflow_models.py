"""A workflow asked for as a model, on OpenAI's paths."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.api.schemas.answers import ChatAnswer
from mm_orch.core.errors import EngineFailedError
from tests.unit.api.face import CHAT, Face, events_of, turns_asked
from tests.unit.api.scripted_generator import ScriptedGenerator, say, think

if TYPE_CHECKING:
    from mm_orch.storage.sql_sessions import SqlSessions

NAME = "workflow/chat_generate"


async def test_openai_clients_ask_a_workflow_as_a_model(store: SqlSessions) -> None:
    face = Face(ScriptedGenerator(say("Hel", "lo")), sessions=store)
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    options = {"stream": True, "stream_options": {"include_usage": True}}

    whole = await face.post(CHAT, model=NAME, messages=messages, max_tokens=7)
    streamed = await face.post(CHAT, model=f"{NAME}/tiny", messages=messages, **options)

    ChatAnswer.model_validate(whole.json())
    assert whole.json()["choices"][0]["message"]["content"] == "Hello"
    assert (whole.json()["model"], whole.headers["x-muai-engine"]) == ("small", "scripted")
    *chunks, done = events_of(streamed)
    assert done == "[DONE]"
    deltas = [json.loads(chunk) for chunk in chunks]
    assert {one["model"] for one in deltas} == {"small"}
    text = [one["choices"][0]["delta"].get("content", "") for one in deltas if one["choices"]]
    assert "".join(text) == "Hello"
    assert deltas[-2]["choices"][0]["finish_reason"] == "stop"
    assert deltas[-1]["usage"]["total_tokens"] == 9
    await face.post(CHAT, model=f"{NAME}/auto", messages=messages)
    assert [request.model for request in face.generator.requests] == [None, "tiny", "small"]
    assert face.generator.requests[0].options.max_tokens == 7
    assert turns_asked(face)[0] == [("system", "Be kind."), ("user", "Hi")]
    assert await store.list_sessions("", limit=9) == ()


async def test_what_a_model_thinks_is_told_as_thoughts() -> None:
    face = Face(ScriptedGenerator([*think("Hm", "m."), *say("Yes.")]))
    messages = [{"role": "user", "content": "Hi"}]

    whole = (await face.post(CHAT, model=NAME, messages=messages)).json()
    streamed = await face.post(CHAT, model=NAME, messages=messages, stream=True)

    message = whole["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Hmm.", "Yes.")
    assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] == 2
    deltas = [json.loads(chunk)["choices"][0]["delta"] for chunk in events_of(streamed)[:-1]]
    assert [one["reasoning_content"] for one in deltas if one.get("reasoning_content")] == [
        "Hm",
        "m.",
    ]


async def test_what_an_answer_is_without_stands_at_its_end() -> None:
    face = Face(ScriptedGenerator([EngineFailedError("It broke.")]))
    asked = {
        "model": "workflow/search_qa",
        "messages": [{"role": "user", "content": "When was the Golden Gate Bridge opened?"}],
    }

    whole = (await face.post(CHAT, **asked)).json()
    streamed = await face.post(CHAT, **asked, stream=True)

    ChatAnswer.model_validate(whole)
    assert "1937" in whole["choices"][0]["message"]["content"]
    failed = whole["muai"]["failed_steps"]
    assert {one["step"] for one in failed} == {"summarise", "answer"}
    assert {one["message"] for one in failed} == {"It broke."}
    *_, end, _done = events_of(streamed)
    assert json.loads(end)["muai"]["failed_steps"] == failed


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (CHAT, {"n": 2}, "n"),
        (CHAT, {"logprobs": True}, "logprobs"),
        (CHAT, {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        (CHAT, {"messages": [{"role": "assistant", "content": "Hi"}]}, "messages"),
        (
            CHAT,
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"type": "object"}},
                }
            },
            "response_format.json_schema.schema",
        ),
        (CHAT, {"response_format": {"type": "json_object"}}, "response_format"),
    ],
)
async def test_what_workflows_do_not_take_is_refused(
    path: str, fields: dict[str, Any], param: str
) -> None:
    face = Face()
    body = {"model": NAME, "messages": [{"role": "user", "content": "Hi"}], **fields}

    response = await face.call("POST", path, body)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert not face.generator.requests


async def test_text_to_be_continued_is_nothing_for_a_workflow() -> None:
    response = await Face().complete(model=NAME)

    assert response.status_code == 400
    assert "/v1/chat/completions" in response.json()["error"]["message"]


async def test_responses_ask_a_workflow_too() -> None:
    response = await Face().respond(model=NAME)

    assert response.status_code == 200
    assert response.json()["output"][0]["content"][0]["text"] == "Hello world"
    # The first turns of what is too long are left out.
    assert response.json()["truncation"] == "auto"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"truncation": "disabled"}, "truncation"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        (
            {"text": {"format": {"type": "json_schema", "name": "a", "schema": {}}}},
            "text.format.schema",
        ),
    ],
)
async def test_what_workflows_do_not_promise_is_refused_in_the_words_of_responses(
    fields: dict[str, Any], param: str
) -> None:
    response = await Face().respond(model=NAME, **fields)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)

"""POST /v1/responses: what of a body reaches the generation, and which events build the answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.api.schemas.response_answers import ResponseAnswer, ResponseEvent
from mm_orch.core.errors import EngineCrashedError
from mm_orch.core.generation import ChatPrompt, FinishReason, Message
from mm_orch.core.guide import JsonObjectShape, JsonSchemaShape
from mm_orch.core.tools import Tool, ToolCall, ToolChoice, ToolUse
from tests.unit.api.face import Face
from tests.unit.api.scripted_generator import ScriptedGenerator, call, say, think

if TYPE_CHECKING:
    import httpx2

CALLING = [
    *think("Hm", "."),
    *say("Let me", " see.")[:2],
    *call("find", '{"city"', ': "Paris"}', call_id="call_a"),
    *say(reason=FinishReason.TOOL_CALLS),
]
FIND = {"type": "function", "name": "find", "parameters": {"type": "object"}, "strict": False}


def events_of(response: httpx2.Response) -> list[dict[str, Any]]:
    """Return the events, each of which is named by its type and counted."""
    assert response.headers["content-type"].startswith("text/event-stream")
    *parts, rest = response.text.split("\n\n")
    assert rest == ""
    events = []
    for number, part in enumerate(parts):
        name, data = part.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        assert event["sequence_number"] == number
        ResponseEvent.model_validate(event)
        events.append(event)
    return events


@pytest.mark.parametrize(
    ("fields", "messages"),
    [
        ({"input": "Hi"}, [Message(role="user", content="Hi")]),
        (
            {"input": "Hi", "instructions": "Be kind."},
            [Message(role="system", content="Be kind."), Message(role="user", content="Hi")],
        ),
        (
            {
                "input": [
                    {"role": "developer", "content": "D"},
                    {
                        "type": "message",
                        "role": "user",
                        "content": [{"type": "input_text", "text": "a"}],
                    },
                    {"type": "reasoning", "id": "rs_1", "summary": []},
                    {
                        "type": "message",
                        "id": "msg_1",
                        "status": "completed",
                        "role": "assistant",
                        "content": [{"type": "output_text", "text": "b", "annotations": []}],
                    },
                    {
                        "type": "function_call",
                        "id": "fc_1",
                        "call_id": "c1",
                        "name": "find",
                        "arguments": '{"x": 1}',
                        "status": "completed",
                    },
                    {
                        "type": "function_call",
                        "call_id": "c2",
                        "name": "find",
                        "arguments": "{}",
                    },
                    {"type": "function_call_output", "call_id": "c1", "output": "one"},
                    {
                        "type": "function_call_output",
                        "call_id": "c2",
                        "output": [{"type": "input_text", "text": "two"}],
                    },
                ]
            },
            [
                Message(role="system", content="D"),
                Message(role="user", content="a"),
                Message(
                    role="assistant",
                    content="b",
                    tool_calls=(
                        ToolCall(id="c1", name="find", arguments={"x": 1}),
                        ToolCall(id="c2", name="find", arguments={}),
                    ),
                ),
                Message(role="tool", content="one", tool_call_id="c1"),
                Message(role="tool", content="two", tool_call_id="c2"),
            ],
        ),
    ],
)
async def test_input_items_become_turns(fields: dict[str, Any], messages: list[Message]) -> None:
    face = Face()

    response = await face.respond(**fields)

    assert response.status_code == 200, response.text
    assert face.generator.requests[0].prompt == ChatPrompt(tuple(messages))


async def test_each_field_reaches_the_generation() -> None:
    face = Face()

    response = await face.respond(
        max_output_tokens=9,
        temperature=0.5,
        top_p=0.9,
        seed=4,
        timeout_s=3,
        tools=[FIND],
        tool_choice={"type": "function", "name": "find"},
        parallel_tool_calls=False,
        text={"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}},
    )

    assert response.status_code == 200, response.text
    [request] = face.generator.requests
    options = request.options
    assert (options.max_tokens, options.temperature, options.top_p) == (9, 0.5, 0.9)
    assert (options.seed, request.timeout_s, options.num_choices) == (4, 3, 1)
    assert options.guide == JsonSchemaShape('{"type":"object"}')
    assert request.max_tokens_param == "max_output_tokens"
    assert request.guide_param == "text.format.schema"
    assert request.tool_param.format(index=0) == "tools.0.parameters"
    assert isinstance(request.prompt, ChatPrompt)
    assert request.prompt.tool_use == ToolUse(
        tools=(Tool(name="find", parameters={"type": "object"}),),
        choice=ToolChoice.REQUIRED,
        name="find",
        is_parallel=False,
    )


@pytest.mark.parametrize(
    ("form", "expected"), [({"type": "text"}, None), ({"type": "json_object"}, JsonObjectShape())]
)
async def test_a_text_format_becomes_a_shape(form: dict[str, Any], expected: object) -> None:
    face = Face()

    await face.respond(text={"format": form})

    assert face.generator.requests[0].options.guide == expected


@pytest.mark.parametrize(
    "harmless",
    [
        {"store": False},
        {"store": None, "previous_response_id": None},
        {"truncation": "disabled"},
        {"include": []},
        {"metadata": {"a": "b"}, "user": "me", "prompt_cache_key": "k"},
        {"tools": [], "tool_choice": "auto", "text": {}},
        {"stream_options": {"include_obfuscation": False}, "stream": True},
    ],
)
async def test_fields_without_effect_are_taken(harmless: dict[str, Any]) -> None:
    response = await Face().respond(**harmless)

    assert response.status_code == 200, response.text


async def test_a_whole_response_has_openais_shape() -> None:
    face = Face(ScriptedGenerator(CALLING))

    response = await face.respond(tools=[FIND], instructions="Be kind.", max_output_tokens=99)

    body = response.json()
    assert ResponseAnswer.model_validate(body).model_dump() == body
    assert body["id"].startswith("resp_")
    assert (body["status"], body["error"], body["incomplete_details"]) == ("completed", None, None)
    assert (body["instructions"], body["max_output_tokens"]) == ("Be kind.", 99)
    assert (body["store"], body["previous_response_id"]) == (False, None)
    assert body["tools"] == [FIND]
    assert body["text"] == {"format": {"type": "text"}}
    thought, message, called = body["output"]
    assert thought["content"] == [{"type": "reasoning_text", "text": "Hm."}]
    assert message["content"][0]["text"] == "Let me see."
    assert (called["call_id"], called["name"]) == ("call_a", "find")
    assert called["arguments"] == '{"city": "Paris"}'
    assert {item["status"] for item in body["output"]} == {"completed"}
    assert len({item["id"] for item in body["output"]}) == 3
    assert body["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 3},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 14,
    }
    assert response.headers["x-muai-model"] == "small"


async def test_typed_events_build_the_same_response() -> None:
    face = Face(ScriptedGenerator(CALLING))

    events = events_of(await face.respond(tools=[FIND], stream=True))

    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    whole = events[-1]["response"]
    assert ResponseAnswer.model_validate(whole).model_dump() == whole
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == whole["output"]
    for event in events:
        if "item_id" in event:
            assert event["item_id"] == whole["output"][event["output_index"]]["id"]
    assert {event["response"]["id"] for event in events if "response" in event} == {whole["id"]}
    added = [event["item"] for event in events if event["type"] == "response.output_item.added"]
    assert [item["status"] for item in added] == ["in_progress"] * 3
    assert added[2]["arguments"] == ""


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_was_cut_is_incomplete(stream: bool) -> None:  # noqa: FBT001 - a parameter of the table
    face = Face(ScriptedGenerator(say("Hel", reason=FinishReason.LENGTH)))

    response = await face.respond(stream=stream)

    body = events_of(response)[-1]["response"] if stream else response.json()
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert body["output"][0]["status"] == "incomplete"


async def test_an_answer_without_a_word_is_an_empty_message() -> None:
    body = (await Face(ScriptedGenerator(say())).respond()).json()

    assert [item["content"][0]["text"] for item in body["output"]] == [""]


async def test_a_stream_that_breaks_off_says_why_in_the_envelope_of_errors() -> None:
    script = [*say("Hel")[:1], EngineCrashedError("The worker has ended.")]

    *_, last = events_of(await Face(ScriptedGenerator(script)).respond(stream=True))

    assert last["type"] == "error"
    assert last["code"] == "engine_crashed"
    assert last["error"]["type"] == "engine_error"
    assert last["message"] == last["error"]["message"] == "The worker has ended."


async def test_an_error_before_any_text_is_an_answer_of_its_own_status() -> None:
    face = Face(ScriptedGenerator([EngineCrashedError("The worker has ended.")]))

    response = await face.respond(stream=True)

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "engine_crashed"

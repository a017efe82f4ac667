"""Response formats, tools and thoughts: what of a body reaches the generation, and back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mm_orch.core.generation import ChatPrompt, FinishReason, Message, TextDelta
from mm_orch.core.guide import JsonObjectShape, JsonSchemaShape
from mm_orch.core.tools import Tool, ToolCall, ToolCallDelta, ToolChoice, ToolUse
from tests.unit.api.face import Face, events_of
from tests.unit.api.scripted_generator import ScriptedGenerator, call, say, think

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
FIND = {
    "type": "function",
    "function": {"name": "find", "description": "Finds", "parameters": SCHEMA, "strict": True},
}
NOW = {"type": "function", "function": {"name": "now"}}
TOOLS = (
    Tool(name="find", description="Finds", parameters=SCHEMA, is_strict=True),
    Tool(name="now"),
)
CALLING = [
    *think("Hm", "."),
    *say("Let me see.")[:1],
    *call("find", '{"city"', ': "Paris"}', call_id="call_a"),
    *call("now", "{}", number=1, call_id="call_b"),
    *say(reason=FinishReason.TOOL_CALLS),
]


@pytest.mark.parametrize(
    ("form", "expected", "param"),
    [
        ({"type": "text"}, None, "response_format"),
        ({"type": "json_object"}, JsonObjectShape(), "response_format"),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}},
            JsonSchemaShape(json.dumps(SCHEMA, separators=(",", ":"))),
            "response_format.json_schema.schema",
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "x"}},
            JsonObjectShape(),
            "response_format.json_schema.schema",
        ),
    ],
)
async def test_a_response_format_becomes_a_shape(
    form: dict[str, Any], expected: object, param: str
) -> None:
    face = Face()

    response = await face.chat(response_format=form)

    assert response.status_code == 200, response.text
    [request] = face.generator.requests
    assert request.options.guide == expected
    assert request.guide_param == param


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ToolUse(tools=TOOLS)),
        ({"tool_choice": "auto"}, ToolUse(tools=TOOLS)),
        ({"tool_choice": "none"}, ToolUse(tools=TOOLS, choice=ToolChoice.NONE)),
        ({"tool_choice": "required"}, ToolUse(tools=TOOLS, choice=ToolChoice.REQUIRED)),
        (
            {"tool_choice": {"type": "function", "function": {"name": "now"}}},
            ToolUse(tools=TOOLS, choice=ToolChoice.REQUIRED, name="now"),
        ),
        ({"parallel_tool_calls": False}, ToolUse(tools=TOOLS, is_parallel=False)),
    ],
)
async def test_tools_and_the_choice_among_them_stand_beside_the_messages(
    fields: dict[str, Any], expected: ToolUse
) -> None:
    face = Face()

    response = await face.chat(tools=[FIND, NOW], **fields)

    assert response.status_code == 200, response.text
    prompt = face.generator.requests[0].prompt
    assert isinstance(prompt, ChatPrompt)
    assert prompt.tool_use == expected


async def test_calls_and_their_outcomes_are_turns() -> None:
    face = Face()
    called = {"name": "find", "arguments": '{"city": "Paris"}'}

    response = await face.chat(
        messages=[
            {"role": "user", "content": "Where?"},
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "Hm.",
                "tool_calls": [{"id": "call_a", "type": "function", "function": called}],
            },
            {"role": "tool", "tool_call_id": "call_a", "content": "There."},
        ]
    )

    assert response.status_code == 200, response.text
    assert face.generator.requests[0].prompt == ChatPrompt(
        (
            Message(role="user", content="Where?"),
            Message(
                role="assistant",
                content="",
                tool_calls=(ToolCall(id="call_a", name="find", arguments={"city": "Paris"}),),
            ),
            Message(role="tool", content="There.", tool_call_id="call_a"),
        )
    )


async def test_a_whole_answer_holds_thoughts_text_and_calls() -> None:
    response = await Face(ScriptedGenerator(CALLING)).chat(tools=[FIND, NOW])

    [choice] = response.json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": "Let me see.",
        "refusal": None,
        "reasoning_content": "Hm.",
        "tool_calls": [
            {
                "id": "call_a",
                "type": "function",
                "function": {"name": "find", "arguments": '{"city": "Paris"}'},
            },
            {"id": "call_b", "type": "function", "function": {"name": "now", "arguments": "{}"}},
        ],
    }
    usage = response.json()["usage"]
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 2}


async def test_an_answer_that_only_calls_has_no_content() -> None:
    script = [*call("now", "{}"), *say(reason=FinishReason.TOOL_CALLS)]

    response = await Face(ScriptedGenerator(script)).chat(tools=[NOW])

    message = response.json()["choices"][0]["message"]
    assert message["content"] is None
    assert "reasoning_content" not in message


def deltas_of(events: list[str]) -> list[dict[str, Any]]:
    assert events.pop() == "[DONE]"
    return [json.loads(event)["choices"][0] for event in events]


async def test_a_stream_names_each_call_before_its_arguments_come_in_pieces() -> None:
    response = await Face(ScriptedGenerator(CALLING)).chat(tools=[FIND, NOW], stream=True)

    choices = deltas_of(events_of(response))
    deltas = [choice["delta"] for choice in choices]
    assert "".join(one.get("reasoning_content", "") for one in deltas) == "Hm."
    assert "".join(one.get("content") or "" for one in deltas) == "Let me see."
    calls = [one["tool_calls"][0] for one in deltas if "tool_calls" in one]
    assert calls[0] == {
        "index": 0,
        "id": "call_a",
        "type": "function",
        "function": {"name": "find", "arguments": ""},
    }
    assert calls[1] == {"index": 0, "function": {"arguments": '{"city"'}}
    assert [one["index"] for one in calls] == [0, 0, 0, 1, 1]
    reasons = [choice["finish_reason"] for choice in choices]
    assert reasons == [None] * (len(choices) - 1) + ["tool_calls"]


async def test_what_comes_in_one_delta_is_told_in_chunks_of_one_kind() -> None:
    news = TextDelta(
        index=0,
        text="b",
        num_tokens=4,
        reasoning="a",
        tool_calls=(
            ToolCallDelta(index=0, id="c", name="f"),
            ToolCallDelta(index=0, arguments="{}"),
        ),
        finish_reason=FinishReason.TOOL_CALLS,
    )

    response = await Face(ScriptedGenerator([news])).chat(stream=True)

    _, *choices = deltas_of(events_of(response))
    assert [list(choice["delta"]) for choice in choices] == [
        ["reasoning_content"],
        ["content"],
        ["tool_calls"],
        ["tool_calls"],
    ]
    assert [choice["finish_reason"] for choice in choices] == [None, None, None, "tool_calls"]


async def test_each_choice_has_its_own_calls() -> None:
    one = [*call("now", "{}", index=0, call_id="x"), *say(index=0, reason=FinishReason.TOOL_CALLS)]
    two = [*call("find", "{", "}", index=1, call_id="y"), *say(index=1, reason=FinishReason.LENGTH)]

    response = await Face(ScriptedGenerator([*one[:1], *two[:2], *one[1:], *two[2:]])).chat(
        n=2, tools=[NOW, FIND]
    )

    told = [
        (choice["message"]["tool_calls"][0]["id"], choice["finish_reason"])
        for choice in response.json()["choices"]
    ]
    assert told == [("x", "tool_calls"), ("y", "length")]

"""What goes to another server and what comes back, as tables."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mm_orch.core.errors import EngineFailedError
from mm_orch.core.generation import (
    ChatPrompt,
    FinishReason,
    GenerationOptions,
    GenerationRequest,
    Message,
    TextPrompt,
    TokensPrompt,
    Usage,
)
from mm_orch.core.guide import JsonObjectShape, JsonSchemaShape
from mm_orch.core.tools import Tool, ToolCall, ToolCallDelta, ToolChoice, ToolUse
from mm_orch.remote.wire import body_of, path_of, read_deltas, read_usage

HELLO = ChatPrompt((Message(role="user", content="Hello"),))
ALWAYS = {"model": "m", "stream": True, "stream_options": {"include_usage": True}}


def body(prompt: object = HELLO, **options: Any) -> dict[str, Any]:
    request = GenerationRequest(
        request_id="r",
        prompt=prompt,  # type: ignore[arg-type]  # told in short
        options=GenerationOptions(**options),
    )
    return body_of(request, "m")


def test_what_has_its_default_is_left_out() -> None:
    assert body() == {"messages": [{"role": "user", "content": "Hello"}], **ALWAYS}


@pytest.mark.parametrize(
    ("prompt", "path", "fields"),
    [
        (HELLO, "/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}),
        (TextPrompt("Once"), "/completions", {"prompt": "Once"}),
        (TokensPrompt((5, 6)), "/completions", {"prompt": [5, 6]}),
    ],
)
def test_each_kind_of_prompt_has_its_path(prompt: Any, path: str, fields: dict[str, Any]) -> None:
    assert path_of(GenerationRequest(request_id="r", prompt=prompt)) == path
    assert body(prompt) == fields | ALWAYS


def test_options_go_by_their_names_there() -> None:
    told = body(
        max_tokens=9,
        min_tokens=2,
        temperature=0.0,
        top_k=5,
        seed=0,
        stop=("a", "b"),
        logit_bias={7: -1.0},
        num_choices=3,
        repetition_penalty=1.1,
        ignore_eos=True,
        num_logprobs=2,
    )

    assert {key: told[key] for key in told if key not in {*ALWAYS, "messages"}} == {
        "max_tokens": 9,
        "min_tokens": 2,
        "temperature": 0.0,
        "top_k": 5,
        "seed": 0,
        "stop": ["a", "b"],
        "logit_bias": {"7": -1.0},
        "n": 3,
        "repetition_penalty": 1.1,
        "ignore_eos": True,
        "logprobs": True,
        "top_logprobs": 2,
    }
    assert body(TextPrompt("x"), num_logprobs=2)["logprobs"] == 2


def test_shapes_and_tools_go_along() -> None:
    assert body(guide=JsonObjectShape())["response_format"] == {"type": "json_object"}
    schema = body(guide=JsonSchemaShape('{"type": "integer"}'))["response_format"]["json_schema"]
    assert schema["schema"] == {"type": "integer"}
    tool = Tool(name="look", description="Looks.", parameters={"type": "object"})
    used = body(ChatPrompt(HELLO.messages, ToolUse(tools=(tool,), name="look", is_parallel=False)))
    assert used["tools"][0]["function"] == {
        "name": "look",
        "description": "Looks.",
        "parameters": {"type": "object"},
    }
    assert used["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert used["parallel_tool_calls"] is False
    required = ToolUse(tools=(tool,), choice=ToolChoice.REQUIRED)
    assert body(ChatPrompt(HELLO.messages, required))["tool_choice"] == "required"


def test_earlier_calls_go_along_with_what_came_of_them() -> None:
    messages = (
        Message(
            role="assistant",
            content="",
            tool_calls=(ToolCall(id="c1", name="look", arguments={"at": 1}),),
        ),
        Message(role="tool", content="42", tool_call_id="c1"),
    )

    call, outcome = body(ChatPrompt(messages))["messages"]

    assert json.loads(call["tool_calls"][0]["function"]["arguments"]) == {"at": 1}
    assert outcome == {"role": "tool", "content": "42", "tool_call_id": "c1"}


def delta_of(**choice: Any) -> Any:
    [delta] = read_deltas({"choices": [{"index": 0, **choice}]})
    return delta


def test_chunks_are_read_whatever_they_bring() -> None:
    assert delta_of(delta={"content": "Hi"}, finish_reason=None).text == "Hi"
    assert delta_of(text="Hi").text == "Hi"
    thought = delta_of(delta={"reasoning_content": "Hm"})
    assert (thought.text, thought.reasoning, thought.num_reasoning_tokens) == ("", "Hm", 1)
    call = {"index": 0, "id": "c", "function": {"name": "look", "arguments": "{"}}
    assert delta_of(delta={"tool_calls": [call]}).tool_calls == (
        ToolCallDelta(index=0, id="c", name="look", arguments="{"),
    )
    opening = delta_of(delta={"role": "assistant", "content": ""})
    assert (opening.text, opening.num_tokens) == ("", 0)
    assert read_deltas({"choices": []}) == []


@pytest.mark.parametrize(
    ("reason", "ours"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("tool_calls", FinishReason.TOOL_CALLS),
        ("content_filter", FinishReason.STOP),
    ],
)
def test_ends_are_read(reason: str, ours: FinishReason) -> None:
    assert delta_of(delta={}, finish_reason=reason).finish_reason is ours


def test_log_probabilities_are_read_in_both_shapes() -> None:
    told = {"token": "Hé", "bytes": [72, 195, 169], "logprob": -0.5, "top_logprobs": []}
    [chat] = delta_of(delta={"content": "Hé"}, logprobs={"content": [told]}).logprobs
    assert (chat.token, chat.token_bytes, chat.logprob) == ("Hé", "Hé".encode(), -0.5)
    older = {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [{"b": -2.0}]}
    [text] = delta_of(text="a", logprobs=older).logprobs
    assert text.top == (("b", b"b", -2.0),)


def test_usage_is_read_where_there_is_any() -> None:
    told = {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": None}
    assert read_usage({"usage": told}) == Usage(num_prompt_tokens=7, num_generated_tokens=2)
    assert read_usage({"usage": None}) is None


@pytest.mark.parametrize(
    ("chunk", "says"),
    [
        ({"error": {"message": "no memory"}}, "no memory"),
        ({"error": "gone"}, "gone"),
        ({"choices": [{"delta": {}}]}, "a chunk that is none"),
        ({"choices": ["x"]}, "a chunk that is none"),
    ],
)
def test_what_is_no_chunk_is_the_servers_fault(chunk: dict[str, Any], says: str) -> None:
    with pytest.raises(EngineFailedError, match=says):
        read_deltas(chunk)

"""Which bodies are refused, with which words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.face import CHAT, RESPONSES, SHORTEST, TEXT, Face

LONG_TEXT = "x" * 500


FUNCTION = {"type": "function", "function": {"name": "f"}}


def tool(name: str, parameters: object = None) -> dict[str, object]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def called(arguments: str) -> dict[str, object]:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}


def user(content: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"temperature": 2.1}, "temperature", ["2.1", "2"]),
        ({"temperature": -0.1}, "temperature", ["-0.1", "0"]),
        ({"temperature": "hot"}, "temperature", ["hot", "number"]),
        ({"temperature": True}, "temperature", ["true"]),
        ({"top_p": 0}, "top_p", ["0"]),
        ({"top_p": 1.01}, "top_p", ["1.01"]),
        ({"top_k": -2}, "top_k", ["-2", "-1"]),
        ({"min_p": 1.5}, "min_p", ["1.5"]),
        ({"presence_penalty": 2.5}, "presence_penalty", ["2.5", "2"]),
        ({"frequency_penalty": -3}, "frequency_penalty", ["-3", "-2"]),
        ({"top_k": 2**70}, "top_k", [str(2**70), str(2**31 - 1)]),
        ({"repetition_penalty": 0}, "repetition_penalty", ["0"]),
        ({"repetition_penalty": 1e-40}, "repetition_penalty", ["1e-40", "0.01"]),
        ({"max_tokens": 0}, "max_tokens", ["0", "1"]),
        ({"max_tokens": 1.5}, "max_tokens", ["1.5", "integer"]),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_completion_tokens", ["5", "6"]),
        ({"min_tokens": -1}, "min_tokens", ["-1"]),
        ({"n": 0}, "n", ["0", "1"]),
        ({"n": 17}, "n", ["17", "16"]),
        ({"n": 2.0}, "n", ["2.0"]),
        ({"seed": 2**63}, "seed", [str(2**63)]),
        ({"seed": 2**200}, "seed", ["seed"]),
        ({"seed": "x"}, "seed", ["x", "integer"]),
        ({"stop": ""}, "stop", ["1 character"]),
        ({"stop": ["ok", ""]}, "stop.1", ["1 character"]),
        ({"stop": ["s"] * 17}, "stop", ["16"]),
        ({"stop": "s" * 1001}, "stop", ["1000", "..."]),
        ({"stop": 5}, "stop", ["5", "string", "list"]),
        ({"logit_bias": {"5": 101}}, "logit_bias.5", ["101", "100"]),
        ({"logit_bias": {"-5": 1}}, "logit_bias.-5", ["-5"]),
        ({"logit_bias": {"five": 1}}, "logit_bias.five", ["five", "token id"]),
        ({"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias", ["1024"]),
        ({"timeout_s": 0}, "timeout_s", ["0"]),
        ({"top_logprobs": 3}, "top_logprobs", ["3", "logprobs"]),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", ["21", "20"]),
        ({"logprobs": 5}, "logprobs", ["5"]),
        ({"stream": "yes"}, "stream", ["yes"]),
        ({"stream_options": {"include_usage": True}}, "stream_options", ["stream: true"]),
        ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage", []),
        (
            {"stream": True, "stream_options": {"continuous_usage_stats": True}},
            "stream_options.continuous_usage_stats",
            [],
        ),
        ({"model": 5}, "model", ["5", "string"]),
        ({"model": "m" * 201}, "model", ["200", "..."]),
        ({"messages": []}, "messages", ["1"]),
        ({"messages": "Hi"}, "messages", ["Hi", "list"]),
        ({"messages": None}, "messages", ["null", "list"]),
        ({"messages": ["Hi"]}, "messages.0", ["Hi", "object"]),
        ({"messages": [{"role": 5, "content": ""}]}, "messages.0.role", ["5", "user"]),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content", ["string"]),
        ({"messages": [{"role": "user", "content": "", "x": 1}]}, "messages.0.x", ["x"]),
        ({"messages": [{"role": "user"}]}, "messages.0.content", ["missing"]),
        ({"messages": [{"content": "Hi"}]}, "messages.0.role", ["missing"]),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages.0.role", ["robot", "user"]),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content", ["5", "string"]),
        (user([]), "messages.0.content", ["1"]),
        (user([{"type": "text"}]), "messages.0.content.0.text", ["missing"]),
        (user([{"type": "smell", "x": 1}]), "messages.0.content.0.type", ["smell", "text"]),
        ({"conversation_id": "a b"}, "conversation_id", ["a b", "letters"]),
        ({"tools": [FUNCTION | {"type": "smell"}]}, "tools.0.type", ["smell", "function"]),
        ({"tools": [{"type": "function"}]}, "tools.0.function", ["missing"]),
        ({"tools": [tool("a b")]}, "tools.0.function.name", ["a b", "letters"]),
        ({"tools": [tool("f"), tool("f")]}, "tools", ["two", "f"]),
        ({"tools": [tool("f")] * 129}, "tools", ["129", "128"]),
        (
            {"tools": [tool("f", {"type": "array"})]},
            "tools.0.function.parameters.type",
            ["array", "object"],
        ),
        ({"tool_choice": "required"}, "tool_choice", ["needs tools"]),
        ({"tool_choice": "always"}, "tool_choice", ["always", "required"]),
        (
            {
                "tools": [tool("f")],
                "tool_choice": {"type": "function", "function": {"name": "g"}},
            },
            "tool_choice",
            ["g", "f"],
        ),
        ({"response_format": {"type": "xml"}}, "response_format.type", ["xml", "json_schema"]),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", ["missing"]),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
            "response_format.json_schema.name",
            ["a b", "letters"],
        ),
        (
            {"messages": [{"role": "tool", "content": "5"}]},
            "messages.0.tool_call_id",
            ["missing"],
        ),
        (called("{"), "messages.0.tool_calls.0.function.arguments", ["no JSON object"]),
        (called("[1]"), "messages.0.tool_calls.0.function.arguments", ["no JSON object"]),
        ({"store": True}, "store", ["true"]),
        ({"store": 0}, "store", ["0", "false"]),
        ({"temprature": 1}, "temprature", ["temperature"]),
        ({"max_token": 1}, "max_token", ["max_tokens"]),
        ({"qqqqqq": 1}, "qqqqqq", ["qqqqqq"]),
        (user(LONG_TEXT) | {"temperature": LONG_TEXT}, "temperature", ["..."]),
    ],
)
async def test_a_wrong_value_is_named_with_what_is_allowed(
    fields: dict[str, Any], param: str, words: list[str]
) -> None:
    face = Face()

    response = await face.chat(**fields)

    error = response.json()["error"]
    assert response.status_code == 400, error
    assert error["type"] == "invalid_request_error"
    assert error["code"] == "invalid_value"
    assert error["param"] == param
    assert param in error["message"]
    assert all(word in error["message"] for word in words), error["message"]
    assert len(error["message"]) < 400
    assert not face.generator.requests


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (CHAT, {"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools.0.type"),
        (CHAT, {"tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        (CHAT, {"functions": [{"name": "f"}]}, "functions"),
        (CHAT, {"messages": [{"role": "function", "content": "5"}]}, "messages.0.role"),
        (
            CHAT,
            user([{"type": "image_url", "image_url": {"url": "data:,"}}]),
            "messages.0.content.0.type",
        ),
        (
            CHAT,
            user([{"type": "input_audio", "input_audio": {"data": ""}}]),
            "messages.0.content.0.type",
        ),
        (CHAT, {"audio": {"voice": "x"}}, "audio"),
        (CHAT, {"reasoning_effort": "low"}, "reasoning_effort"),
        (CHAT, {"modalities": ["text", "audio"]}, "modalities.1"),
        (TEXT, {"echo": True}, "echo"),
        (TEXT, {"suffix": "end"}, "suffix"),
        (RESPONSES, {"background": True}, "background"),
        (RESPONSES, {"conversation": "c"}, "conversation"),
        (RESPONSES, {"reasoning": {"effort": "low"}}, "reasoning"),
        (RESPONSES, {"include": ["reasoning.encrypted_content"]}, "include"),
        (RESPONSES, {"text": {"verbosity": "low"}}, "text.verbosity"),
    ],
)
async def test_what_is_not_built_is_refused_with_that_reason(
    path: str, fields: dict[str, Any], param: str
) -> None:
    face = Face()

    response = await face.call("POST", path, {**SHORTEST[path], **fields})

    error = response.json()["error"]
    assert response.status_code == 400, error
    assert error["code"] == "unsupported_feature", error
    assert error["param"] == param, error
    assert "not built in this version yet" in error["message"]
    assert not face.generator.requests


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": [-1]}, "prompt.0"),
        ({"prompt": [1, "a"]}, "prompt.1"),
        ({"prompt": [[]]}, "prompt.0"),
        ({"prompt": [[1], [-3]]}, "prompt.1.0"),
        ({"prompt": ["a"] * 65}, "prompt"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"best_of": 3, "n": 2}, "best_of"),
        ({"messages": []}, "messages"),
        ({"max_completion_tokens": 4}, "max_completion_tokens"),
    ],
)
async def test_a_wrong_completion_is_refused_by_field(fields: dict[str, Any], param: str) -> None:
    face = Face()

    response = await face.complete(**fields)

    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param), error


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"input": []}, "input", ["1"]),
        ({"input": 5}, "input", ["5", "string", "list"]),
        ({"input": None}, "input", ["null"]),
        ({"input": [{"role": "robot", "content": "Hi"}]}, "input.0.role", ["robot", "user"]),
        ({"input": [{"type": "smell"}]}, "input.0.type", ["smell", "message"]),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0", []),
        ({"input": [{"type": "function_call_output", "output": "5"}]}, "input.0.call_id", []),
        (
            {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{"}]},
            "input.0.arguments",
            ["no JSON object"],
        ),
        ({"max_output_tokens": 0}, "max_output_tokens", ["0"]),
        ({"max_tokens": 5}, "max_tokens", ["not a field"]),
        ({"store": True}, "store", ["never stored", "store: false"]),
        ({"previous_response_id": "resp_1"}, "previous_response_id", ["never stored", "input"]),
        ({"truncation": "auto"}, "truncation", ["auto", "disabled"]),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", ["xml"]),
        (
            {"text": {"format": {"type": "json_schema", "name": "x"}}},
            "text.format.schema",
            ["missing"],
        ),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type", ["web_search", "function"]),
        (
            {"tools": [{"type": "function", "name": "f", "parameters": {"type": "string"}}]},
            "tools.0.parameters.type",
            ["string", "object"],
        ),
    ],
)
async def test_a_wrong_response_is_refused_by_field(
    fields: dict[str, Any], param: str, words: list[str]
) -> None:
    face = Face()

    response = await face.respond(**fields)

    error = response.json()["error"]
    assert response.status_code == 400, error
    assert error["param"].startswith(param), error
    assert all(word in error["message"] for word in words), error["message"]
    assert not face.generator.requests


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"hello",
        b'"text"',
        b"[]",
        b"null",
        b'{"messages": [{"role": "user", "content": "\xff"}]}',
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "Hi"}], "temperature": NaN}',
        b'{"messages": [{"role": "user", "content": "Hi"}], "temperature": Infinity}',
        b'{"messages": [{"role": "user", "content": "Hi"}], "temperature": 1e999}',
        b'{"messages": [{"role": "user", "content": "Hi"}]} trailing',
        b'{"messages":' + b"[" * 100_000,
        b'{"metadata":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001,
        b"\x00\x01\x02",
    ],
    ids=lambda content: content[:24].decode("latin-1") or "empty",
)
async def test_what_is_no_json_object_is_a_bad_request(content: bytes) -> None:
    face = Face()

    response = await face.call("POST", CHAT, content=content)

    error = response.json()["error"]
    assert response.status_code == 400, error
    assert error["type"] == "invalid_request_error"
    assert len(error["message"]) < 300
    assert not face.generator.requests

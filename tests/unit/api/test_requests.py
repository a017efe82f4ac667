"""What a body becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mm_orch.core.generation import ChatPrompt, Message, TextPrompt, TokensPrompt
from tests.unit.api.face import CHAT, HELLO, SHORTEST, TEXT, Face


async def test_the_shortest_chat_asks_for_the_defaults_of_the_default_model() -> None:
    face = Face()

    response = await face.chat()

    [request] = face.generator.requests
    assert response.status_code == 200
    assert request.model is None
    assert request.prompt == ChatPrompt((Message(role="user", content="Hi"),))
    assert request.options.max_tokens is None
    assert request.options.temperature is None
    assert request.options.num_choices == 1
    assert request.request_id == response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("field", "value", "option", "expected"),
    [
        ("max_tokens", 5, "max_tokens", 5),
        ("min_tokens", 2, "min_tokens", 2),
        ("temperature", 0, "temperature", 0.0),
        ("temperature", 2.0, "temperature", 2.0),
        ("top_p", 0.1, "top_p", 0.1),
        ("top_k", 7, "top_k", 7),
        ("top_k", -1, "top_k", 0),
        ("min_p", 0.2, "min_p", 0.2),
        ("presence_penalty", -2, "presence_penalty", -2.0),
        ("frequency_penalty", 2, "frequency_penalty", 2.0),
        ("repetition_penalty", 1.3, "repetition_penalty", 1.3),
        ("seed", -(2**63), "seed", -(2**63)),
        ("seed", 2**63 - 1, "seed", 2**63 - 1),
        ("seed", 0, "seed", 0),
        ("logit_bias", {"5": -100, "17": 1.5}, "logit_bias", {5: -100.0, 17: 1.5}),
        ("stop", "END", "stop", ("END",)),
        ("stop", ["a", "b"], "stop", ("a", "b")),
        ("stop", [], "stop", ()),
        ("stop", None, "stop", ()),
        ("n", 16, "num_choices", 16),
        ("ignore_eos", True, "ignore_eos", True),
    ],
)
@pytest.mark.parametrize("path", [CHAT, TEXT])
async def test_each_field_reaches_the_generation(
    path: str, field: str, value: object, option: str, expected: object
) -> None:
    face = Face()

    response = await face.call("POST", path, {**SHORTEST[path], field: value})

    assert response.status_code == 200, response.text
    assert getattr(face.generator.requests[0].options, option) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
        ({"logprobs": False}, None),
        ({}, None),
    ],
)
async def test_logprobs_of_a_chat_count_the_alternatives(
    fields: dict[str, Any], expected: int | None
) -> None:
    face = Face()

    await face.chat(**fields)

    assert face.generator.requests[0].options.num_logprobs == expected


async def test_timeout_s_is_the_deadline_and_the_spelling_of_max_tokens_is_kept() -> None:
    face = Face()

    await face.chat(timeout_s=2.5, max_completion_tokens=3)

    assert face.generator.requests[0].timeout_s == 2.5
    assert face.generator.requests[0].options.max_tokens == 3
    assert face.generator.requests[0].max_tokens_param == "max_completion_tokens"


@pytest.mark.parametrize(
    "harmless",
    [
        {"user": "me"},
        {"metadata": {"a": "b"}},
        {"store": False},
        {"service_tier": "auto"},
        {"parallel_tool_calls": True},
        {"tools": None, "tool_choice": None, "response_format": None},
        {"response_format": {"type": "text"}},
        {"tools": []},
        {"tool_choice": "none"},
        {"stream": False},
        {"logit_bias": None, "n": None, "temperature": None, "max_tokens": None},
    ],
)
async def test_fields_without_effect_are_taken(harmless: dict[str, Any]) -> None:
    response = await Face().chat(**harmless)

    assert response.status_code == 200, response.text


async def test_all_roles_and_text_parts_become_messages() -> None:
    face = Face()
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]

    response = await face.chat(
        messages=[
            {"role": "system", "content": "S"},
            {"role": "developer", "content": "D"},
            {"role": "user", "content": parts, "name": "Ada"},
            {"role": "assistant", "content": None},
            {"role": "assistant", "content": ""},
            {"role": "user", "content": ""},
        ]
    )

    assert response.status_code == 200, response.text
    assert face.generator.requests[0].prompt == ChatPrompt(
        (
            Message(role="system", content="S"),
            Message(role="system", content="D"),
            Message(role="user", content="one two"),
            Message(role="assistant", content=""),
            Message(role="assistant", content=""),
            Message(role="user", content=""),
        )
    )


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Hi", [TextPrompt("Hi")]),
        (["a", "b"], [TextPrompt("a"), TextPrompt("b")]),
        ([1, 2], [TokensPrompt((1, 2))]),
        ([[1, 2], [3]], [TokensPrompt((1, 2)), TokensPrompt((3,))]),
    ],
)
async def test_a_prompt_is_text_or_tokens_or_several(prompt: object, expected: object) -> None:
    face = Face()

    response = await face.complete(prompt=prompt)

    assert response.status_code == 200, response.text
    assert [request.prompt for request in face.generator.requests] == expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [("small", "small"), ("tiny", "small"), ("auto", "small"), (None, "small")],
)
async def test_a_name_an_alias_auto_and_none_choose_a_model(
    model: str | None, expected: str
) -> None:
    response = await Face().chat(model=model)

    assert response.headers["x-muai-model"] == expected
    assert response.headers["x-muai-engine"] == "scripted"
    assert response.json()["model"] == expected


async def test_completions_take_best_of_when_it_equals_n() -> None:
    assert (await Face().complete(best_of=2, n=2)).status_code == 200


async def test_a_large_body_is_read_like_a_small_one() -> None:
    face = Face()
    text = "word " * 100_000

    response = await face.chat(messages=[{"role": "user", "content": text}])

    assert response.status_code == 200
    prompt = face.generator.requests[0].prompt
    assert isinstance(prompt, ChatPrompt)
    assert prompt.messages[0].content == text


async def test_a_body_needs_no_content_type() -> None:
    response = await Face().call("POST", CHAT, content=json.dumps(HELLO).encode())

    assert response.status_code == 200

"""Whatever JSON is sent, it is either taken or refused in words; nothing else comes out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_orch.api.bodies import parse_body
from mm_orch.api.schemas.chat import ChatRequest
from mm_orch.api.schemas.completion import CompletionRequest
from mm_orch.api.schemas.responses import ResponsesRequest
from mm_orch.core.errors import RequestError

if TYPE_CHECKING:
    from pydantic import BaseModel

SCHEMAS: list[type[BaseModel]] = [ChatRequest, CompletionRequest, ResponsesRequest]
NEEDED = {ChatRequest: "messages", CompletionRequest: "prompt", ResponsesRequest: "input"}
NAMES = sorted({name for schema in SCHEMAS for name in schema.model_fields})
INNER_NAMES = ["role", "content", "type", "text", "name", "include_usage", "5", "user", "0"]
INNER_NAMES += ["function", "parameters", "json_schema", "schema", "arguments", "call_id", "format"]
WORDS = ["", "user", "assistant", "tool", "text", "image_url", "auto", "required", "function"]
WORDS += ["json_object", "json_schema", "function_call", "message", "{}"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([*WORDS, "x" * 99]),
    st.text(max_size=5),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(INNER_NAMES) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)
BODIES = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=6), VALUES, max_size=6)


def find_refusal(schema: type[Any], body: dict[str, Any]) -> RequestError | None:
    try:
        assert parse_body(json.dumps(body).encode(), schema).as_requests("r")
    except RequestError as error:
        return error
    return None


@pytest.mark.parametrize("schema", SCHEMAS)
@settings(max_examples=300, deadline=None)
@given(body=BODIES, shortest=st.booleans())
def test_a_body_is_taken_or_refused_by_field(
    schema: type[Any],
    body: dict[str, Any],
    shortest: bool,  # noqa: FBT001 - a strategy's value
) -> None:
    if shortest:
        least = {
            "messages": [{"role": "user", "content": "Hi"}],
            "prompt": "Hi",
            "input": "Hi",
        }
        body = {NEEDED[schema]: least[NEEDED[schema]]} | body
    refusal = find_refusal(schema, body)

    assert refusal is None or refusal.param is not None or "JSON" in refusal.message
    assert refusal is None or refusal.message.endswith((".", "?"))
    assert refusal is None or len(refusal.message) < 700

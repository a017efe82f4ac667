"""Response formats, tools and responses through the official client, with the real model.

It is far too small to choose well; what is asked for is that whatever it says is valid.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import openai
import pytest
from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai.types.chat import ChatCompletionUserMessageParam

    from tests.processes import ServerProcess

pytestmark = pytest.mark.model

MODEL = "smollm2-135m"
QUESTION: list[ChatCompletionUserMessageParam] = [
    {"role": "user", "content": "What is the weather in Paris?"}
]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "unit", "days"],
    "additionalProperties": False,
}
WEATHER: Any = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Forecast", "parameters": SCHEMA},
}
NOW: Any = {"type": "function", "function": {"name": "now", "description": "The time"}}
PARAMETERS = {"get_weather": SCHEMA, "now": {"type": "object", "maxProperties": 0}}
FLAT: Any = [{"type": "function", **tool["function"]} for tool in (WEATHER, NOW)]
# Room for everything that the schema allows.
MAX_TOKENS = 120


@pytest.fixture
def client(pytorch_server: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{pytorch_server.url}/v1", api_key="none", max_retries=0
    ) as client:
        yield client


def assert_calls(called: list[tuple[str, str]]) -> None:
    assert called
    for name, arguments in called:
        jsonschema_rs.validate(PARAMETERS[name], json.loads(arguments))


@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
def test_an_answer_under_a_schema_is_valid_whatever_is_drawn(
    client: openai.OpenAI, temperature: float
) -> None:
    answer = client.chat.completions.create(
        messages=QUESTION,
        model=MODEL,
        temperature=temperature,
        seed=3,
        n=3,
        max_tokens=MAX_TOKENS,
        response_format={"type": "json_schema", "json_schema": {"name": "w", "schema": SCHEMA}},
    )

    for choice in answer.choices:
        assert choice.finish_reason == "stop"
        jsonschema_rs.validate(SCHEMA, json.loads(choice.message.content or ""))


def test_a_streamed_answer_under_a_schema_is_the_whole_one(client: openai.OpenAI) -> None:
    how: Any = {
        "messages": QUESTION,
        "model": MODEL,
        "temperature": 0,
        "max_tokens": MAX_TOKENS,
        "response_format": {"type": "json_schema", "json_schema": {"name": "w", "schema": SCHEMA}},
    }
    whole = client.chat.completions.create(**how)
    with client.chat.completions.create(**how, stream=True) as stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    assert text == whole.choices[0].message.content
    jsonschema_rs.validate(SCHEMA, json.loads(text))


def test_a_guided_answer_beside_free_ones_changes_none_of_them(client: openai.OpenAI) -> None:
    # Choices of one request share their steps; this one's prompt is not guided.
    alone = client.chat.completions.create(
        messages=QUESTION, model=MODEL, temperature=0, max_tokens=12
    )
    guided = client.chat.completions.create(
        messages=QUESTION,
        model=MODEL,
        temperature=0,
        max_tokens=12,
        response_format={"type": "json_object"},
    )
    again = client.chat.completions.create(
        messages=QUESTION, model=MODEL, temperature=0, max_tokens=12
    )

    assert (guided.choices[0].message.content or "").startswith("{")
    assert again.choices[0].message.content == alone.choices[0].message.content


class Weather(BaseModel):
    """What the client's own parser makes a schema of, and reads the answer with."""

    city: str = Field(max_length=12)
    days: int = Field(ge=1, le=9)


def test_the_clients_parser_reads_an_answer_into_its_model(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        messages=QUESTION,
        model=MODEL,
        temperature=0,
        max_tokens=MAX_TOKENS,
        response_format=Weather,
    )

    parsed = answer.choices[0].message.parsed
    assert isinstance(parsed, Weather)
    assert 1 <= parsed.days <= 9


def test_a_schema_that_cannot_be_kept_to_is_a_bad_request(client: openai.OpenAI) -> None:
    schema = {"type": "array", "uniqueItems": True}
    with pytest.raises(openai.BadRequestError, match="uniqueItems") as caught:
        client.chat.completions.create(
            messages=QUESTION,
            model=MODEL,
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        )

    assert caught.value.param == "response_format.json_schema.schema"


@pytest.mark.parametrize("is_parallel", [True, False])
def test_a_call_that_is_required_is_made_and_valid(
    client: openai.OpenAI,
    is_parallel: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    answer = client.chat.completions.create(
        messages=QUESTION,
        model=MODEL,
        temperature=1.3,
        seed=4,
        n=2,
        max_tokens=2 * MAX_TOKENS,
        tools=[WEATHER, NOW],
        tool_choice="required",
        parallel_tool_calls=is_parallel,
    )

    for choice in answer.choices:
        calls = choice.message.tool_calls or []
        if choice.finish_reason == "length":
            # Calls may follow one another to the end of the room; the last one is cut.
            assert is_parallel
            calls.pop()
        else:
            assert choice.finish_reason == "tool_calls"
        assert len(calls) == 1 or is_parallel
        assert_calls([(one.function.name, one.function.arguments) for one in calls])  # type: ignore[union-attr]  # there are no custom tools


def test_streamed_calls_put_together_are_valid(client: openai.OpenAI) -> None:
    called: dict[tuple[int, int], tuple[str, str]] = {}
    ids = set()
    with client.chat.completions.create(
        messages=QUESTION,
        model=MODEL,
        temperature=1.0,
        seed=9,
        n=2,
        max_tokens=MAX_TOKENS,
        tools=[WEATHER, NOW],
        tool_choice="required",
        parallel_tool_calls=False,
        stream=True,
    ) as stream:
        for chunk in stream:
            for choice in chunk.choices:
                for call in choice.delta.tool_calls or ():
                    key = (choice.index, call.index)
                    assert call.function is not None
                    if call.id:
                        ids.add(call.id)
                        called[key] = (call.function.name or "", "")
                    name, arguments = called[key]
                    called[key] = (name, arguments + (call.function.arguments or ""))

    assert sorted(called) == [(0, 0), (1, 0)]
    assert len(ids) == 2
    assert_calls(list(called.values()))


def test_the_clients_stream_helper_understands_the_calls(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        messages=QUESTION,
        model=MODEL,
        temperature=0,
        max_tokens=MAX_TOKENS,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
    ) as stream:
        answer = stream.get_final_completion()

    [call] = answer.choices[0].message.tool_calls or []
    assert answer.choices[0].finish_reason == "tool_calls"
    assert_calls([(call.function.name, call.function.arguments)])


def test_the_model_hears_what_came_of_a_call(client: openai.OpenAI) -> None:
    arguments = '{"city": "Paris", "unit": "celsius", "days": 1}'
    call: Any = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": arguments},
    }
    outcome: Any = {"role": "tool", "tool_call_id": "call_1", "content": "sunny, 20 degrees"}
    answer = client.chat.completions.create(
        messages=[
            *QUESTION,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            outcome,
        ],
        model=MODEL,
        temperature=0,
        max_tokens=40,
    )

    assert "sunny" in (answer.choices[0].message.content or "").lower()


def test_a_model_that_may_call_may_also_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        messages=[{"role": "user", "content": "Hello, who are you?"}],
        model=MODEL,
        temperature=0,
        max_tokens=60,
        tools=[NOW],
    )

    [choice] = answer.choices
    called = choice.message.tool_calls or []
    assert bool(called) == (choice.finish_reason == "tool_calls")
    assert called or choice.message.content


def test_a_response_is_answered_whole_and_in_events(client: openai.OpenAI) -> None:
    how: Any = {"model": MODEL, "input": "What is the capital of Japan?", "temperature": 0}
    whole = client.responses.create(**how, instructions="Answer briefly.", max_output_tokens=64)
    with client.responses.stream(
        **how, instructions="Answer briefly.", max_output_tokens=64
    ) as stream:
        text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
        final = stream.get_final_response()

    assert "Tokyo" in whole.output_text
    assert whole.status == "completed"
    assert text == final.output_text == whole.output_text
    assert whole.usage is not None
    assert whole.usage.output_tokens > 0
    assert whole.usage.output_tokens_details.reasoning_tokens == 0


def test_a_response_under_a_schema_is_valid(client: openai.OpenAI) -> None:
    answer = client.responses.create(
        model=MODEL,
        input=[{"role": "user", "content": "The weather in Paris."}],
        max_output_tokens=MAX_TOKENS,
        temperature=1.0,
        text={"format": {"type": "json_schema", "name": "w", "schema": SCHEMA}},
    )

    jsonschema_rs.validate(SCHEMA, json.loads(answer.output_text))


def test_a_response_that_calls_goes_on_with_what_came_of_it(client: openai.OpenAI) -> None:
    conversation: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
    with client.responses.stream(
        model=MODEL,
        input=conversation,
        tools=FLAT,
        tool_choice="required",
        parallel_tool_calls=False,
        temperature=0,
        max_output_tokens=MAX_TOKENS,
    ) as stream:
        pieces = [e.delta for e in stream if e.type == "response.function_call_arguments.delta"]
        first = stream.get_final_response()

    [call] = first.output
    assert call.type == "function_call"
    assert "".join(pieces) == call.arguments
    assert_calls([(call.name, call.arguments)])
    conversation += [
        {
            "type": "function_call",
            "call_id": call.call_id,
            "name": call.name,
            "arguments": call.arguments,
        },
        {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny, 20 degrees."},
    ]
    second = client.responses.create(
        model=MODEL, input=conversation, temperature=0, max_output_tokens=40
    )
    assert "sunny" in second.output_text.lower()


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"store": True}, "store"), ({"previous_response_id": "resp_1"}, "previous_response_id")],
)
def test_a_response_that_needs_a_store_is_refused_with_what_to_do(
    client: openai.OpenAI, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError, match="never stored") as caught:
        client.responses.create(model=MODEL, input="Hi", **fields)

    assert caught.value.param == param


def test_a_deadline_within_a_streamed_response_is_raised_from_it(client: openai.OpenAI) -> None:
    with (
        client.responses.create(
            model=MODEL,
            input="Tell me a story.",
            stream=True,
            extra_body={"timeout_s": 2, "ignore_eos": True},
        ) as stream,
        pytest.raises(openai.APIError, match="2 s") as caught,
    ):
        for _ in stream:
            pass

    assert caught.value.code == "deadline_exceeded"

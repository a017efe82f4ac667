"""The official Python client against the real server and the real model: it must notice nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest

from mm_orch.workflows.registry import WorkflowRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from openai.types.chat import ChatCompletionUserMessageParam

    from tests.processes import ServerProcess

pytestmark = pytest.mark.model

MODEL = "smollm2-135m"
QUESTION: list[ChatCompletionUserMessageParam] = [
    {"role": "user", "content": "What is the capital of Japan?"}
]
# Greedy, so that two calls say the same.
GREEDY: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_tokens": 12}


@pytest.fixture
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def pytorch_client(pytorch_server: ServerProcess) -> Iterator[openai.OpenAI]:
    """A client of the engine that knows more log probabilities than the chosen token's."""
    with openai.OpenAI(
        base_url=f"{pytorch_server.url}/v1", api_key="none", max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def async_client(server: ServerProcess) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0
    ) as client:
        yield client


@pytest.fixture(scope="module")
def greedy_text(server: ServerProcess) -> str:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        answer = client.chat.completions.create(messages=QUESTION, **GREEDY)
    return answer.choices[0].message.content or ""


def test_a_chat_is_answered_with_usage(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(messages=QUESTION, **GREEDY)

    assert answer.model == MODEL
    assert answer.object == "chat.completion"
    assert "Tokyo" in (answer.choices[0].message.content or "")
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 5
    assert 1 <= answer.usage.completion_tokens <= 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details is not None


def test_max_tokens_is_the_end_and_says_so(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        messages=QUESTION, model=MODEL, max_completion_tokens=3, extra_body={"ignore_eos": True}
    )

    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_a_stream_says_the_same_as_a_whole_answer(client: openai.OpenAI, greedy_text: str) -> None:
    with client.chat.completions.create(
        messages=QUESTION, stream=True, stream_options={"include_usage": True}, **GREEDY
    ) as stream:
        chunks = list(stream)

    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == greedy_text
    assert choices[0].delta.role == "assistant"
    assert [choice.finish_reason for choice in choices if choice.finish_reason] in (
        ["stop"],
        ["length"],
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens >= 1
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


async def test_the_async_client_streams(async_client: openai.AsyncOpenAI, greedy_text: str) -> None:
    async with await async_client.chat.completions.create(
        messages=QUESTION, stream=True, **GREEDY
    ) as stream:
        texts = [chunk.choices[0].delta.content or "" async for chunk in stream]

    assert "".join(texts) == greedy_text


async def test_the_stream_helper_puts_the_answer_together(
    async_client: openai.AsyncOpenAI, greedy_text: str
) -> None:
    async with async_client.chat.completions.stream(messages=QUESTION, **GREEDY) as stream:
        answer = await stream.get_final_completion()

    assert answer.choices[0].message.content == greedy_text


async def test_who_leaves_a_stream_frees_its_place(
    async_client: openai.AsyncOpenAI, server: ServerProcess
) -> None:
    async with await async_client.chat.completions.create(
        messages=QUESTION,
        model=MODEL,
        stream=True,
        max_tokens=2000,
        extra_body={"ignore_eos": True},
    ) as stream:
        await anext(aiter(stream))

    reports = iter(lambda: server.request("GET", "/api/status").json, None)
    assert any(report["num_running"] == 0 for report in reports)


def test_raw_responses_say_who_answered(client: openai.OpenAI, default_engine: str) -> None:
    raw = client.chat.completions.with_raw_response.create(
        messages=QUESTION, extra_headers={"X-Request-ID": "mine-7"}, **GREEDY
    )

    assert raw.headers["x-muai-model"] == MODEL
    assert raw.headers["x-muai-engine"] == default_engine
    assert raw.headers["x-request-id"] == "mine-7"
    assert raw.parse()._request_id == "mine-7"


def test_two_choices_differ_and_are_counted_together(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        messages=QUESTION,
        model=MODEL,
        n=2,
        seed=5,
        max_tokens=12,
        extra_body={"ignore_eos": True},
    )

    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].message.content != answer.choices[1].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 24


def test_a_seed_says_the_same_twice(client: openai.OpenAI) -> None:
    def ask() -> list[str | None]:
        answer = client.chat.completions.create(
            messages=QUESTION, model=MODEL, seed=-11, n=2, max_tokens=8
        )
        return [choice.message.content for choice in answer.choices]

    assert ask() == ask()


def check_logprobs(client: openai.OpenAI, num_alternatives: int) -> None:
    whole = client.chat.completions.create(messages=QUESTION, **GREEDY)
    answer = client.chat.completions.create(
        messages=QUESTION, logprobs=True, top_logprobs=num_alternatives, **GREEDY
    )

    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    told = b"".join(bytes(token.bytes or []) for token in logprobs.content)
    assert told.decode() == whole.choices[0].message.content
    for token in logprobs.content:
        assert len(token.top_logprobs) == num_alternatives
        assert token.logprob <= 0
        # Greedy takes the likeliest.
        for likeliest in token.top_logprobs[:1]:
            assert likeliest.token == token.token
            assert likeliest.logprob == token.logprob


def test_log_probabilities_cover_the_text_token_by_token(client: openai.OpenAI) -> None:
    check_logprobs(client, 0)


def test_alternatives_stand_beside_each_token(pytorch_client: openai.OpenAI) -> None:
    check_logprobs(pytorch_client, 3)
    answer = pytorch_client.completions.create(prompt="Once upon", logprobs=2, **GREEDY)

    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.top_logprobs is not None
    assert {len(top) for top in logprobs.top_logprobs} == {2}


def test_a_stop_string_ends_the_text_before_it(client: openai.OpenAI, greedy_text: str) -> None:
    stop = greedy_text[len(greedy_text) // 2 :][:5]

    answer = client.chat.completions.create(messages=QUESTION, stop=[stop], **GREEDY)

    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content == greedy_text[: greedy_text.index(stop)]


def test_completions_continue_text_tokens_and_several_prompts(client: openai.OpenAI) -> None:
    one = client.completions.create(prompt="Once upon a time", logprobs=0, **GREEDY)
    many = client.completions.create(prompt=["Once upon a time", "The sky is"], **GREEDY)
    ids = client.completions.create(prompt=[504, 314, 260], **GREEDY)

    assert one.choices[0].text
    assert one.choices[0].logprobs is not None
    assert one.choices[0].logprobs.tokens is not None
    assert "".join(one.choices[0].logprobs.tokens) == one.choices[0].text
    assert one.choices[0].logprobs.text_offset is not None
    assert one.choices[0].logprobs.text_offset[0] == 0
    assert [choice.index for choice in many.choices] == [0, 1]
    assert many.choices[0].text == one.choices[0].text
    assert ids.usage is not None
    assert ids.usage.prompt_tokens == 3


def test_a_completion_streams(client: openai.OpenAI) -> None:
    whole = client.completions.create(prompt="Once upon a time", **GREEDY)
    with client.completions.create(prompt="Once upon a time", stream=True, **GREEDY) as stream:
        texts = [chunk.choices[0].text for chunk in stream]

    assert "".join(texts) == whole.choices[0].text


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    # The cascade is switched off where nobody switches it on.
    known = WorkflowRegistry(knows_itself=True).names
    workflows = [f"workflow/{name}" for name in known if name != "cascade"]
    names = [MODEL, *workflows]
    assert [model.id for model in client.models.list()] == names
    assert [client.models.retrieve(name).id for name in names] == names


def test_a_wrong_value_is_a_bad_request_that_names_its_field(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"temperature is 3.*2") as caught:
        client.chat.completions.create(messages=QUESTION, model=MODEL, temperature=3)

    assert caught.value.param == "temperature"
    assert caught.value.code == "invalid_value"
    assert caught.value.request_id


def test_what_is_not_built_is_refused_with_the_reason(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="not built") as caught:
        client.chat.completions.create(messages=QUESTION, model=MODEL, reasoning_effort="low")

    assert caught.value.code == "unsupported_feature"


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match=MODEL) as caught:
        client.chat.completions.create(messages=QUESTION, model="gpt-9")

    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_over_the_context_is_refused_with_its_code(
    client: openai.OpenAI,
    stream: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    with pytest.raises(openai.BadRequestError, match="8192") as caught:
        client.chat.completions.create(
            messages=[{"role": "user", "content": "word " * 9000}], model=MODEL, stream=stream
        )

    assert caught.value.code == "context_length_exceeded"


def test_a_deadline_that_passes_is_a_gateway_timeout(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match=r"0\.01 s") as caught:
        client.chat.completions.create(
            messages=QUESTION,
            model=MODEL,
            extra_body={"timeout_s": 0.01, "ignore_eos": True, "max_tokens": 4000},
        )

    assert caught.value.status_code == 504
    assert caught.value.code == "deadline_exceeded"


def test_a_deadline_within_a_stream_is_raised_from_it(client: openai.OpenAI) -> None:
    with (
        client.chat.completions.create(
            messages=QUESTION,
            model=MODEL,
            stream=True,
            extra_body={"timeout_s": 2, "ignore_eos": True, "max_tokens": 4000},
        ) as stream,
        pytest.raises(openai.APIError, match="2 s") as caught,
    ):
        for _ in stream:
            pass

    assert caught.value.code == "deadline_exceeded"


def test_with_auth_a_key_is_needed_and_each_header_takes_it(
    launch: Callable[..., ServerProcess],
) -> None:
    key = "sk-0123456789abcdef0123456789abcdef"
    locked = launch(
        config={
            "models": {MODEL: {"engines": ["echo"]}},
            "api": {"enable_auth": True, "api_keys": [{"name": "me", "key": key}]},
        }
    )
    with openai.OpenAI(base_url=f"{locked.url}/v1", api_key=key, max_retries=0) as client:
        assert client.models.list().data[0].id == MODEL
    with (
        openai.OpenAI(base_url=f"{locked.url}/v1", api_key="sk-wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.chat.completions.create(messages=QUESTION, **GREEDY)

    assert caught.value.code == "invalid_api_key"
    assert locked.request("GET", "/v1/models", headers={"X-API-Key": key}).status == 200
    assert locked.request("GET", "/health").status == 200
    assert key not in locked.log
    assert "sk-wrong" not in locked.log

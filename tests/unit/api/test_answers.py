"""What answers look like, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mm_orch.core.generation import FinishReason, TextDelta
from tests.unit.api.face import Face, events_of
from tests.unit.api.scripted_generator import ScriptedGenerator, say, tell

USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 2,
    "total_tokens": 9,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
TOLD = [
    TextDelta(index=0, text="Hé", num_tokens=1, logprobs=(tell("Hé", -0.1, ("Hé", -0.1)),)),
    TextDelta(
        index=0, text="llo", num_tokens=1, logprobs=(tell("llo", -0.5, ("llo", -0.5), ("y", -2)),)
    ),
    TextDelta(index=0, text="", num_tokens=0, finish_reason=FinishReason.LENGTH),
]


def chunks_of(events: list[str]) -> list[Any]:
    assert events.pop() == "[DONE]"
    return [json.loads(event) for event in events]


def text_of(chunks: list[Any], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return "".join(
        choice["text"] if "text" in choice else choice["delta"].get("content", "")
        for choice in choices
        if choice["index"] == index
    )


async def test_a_whole_chat_has_openais_shape() -> None:
    response = await Face().chat()

    body = response.json()
    assert body.pop("id").startswith("chatcmpl-")
    assert isinstance(body.pop("created"), int)
    assert body.pop("choices") == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello world", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert body == {"object": "chat.completion", "model": "small", "usage": USAGE} | {
        key: None for key in body if key == "system_fingerprint"
    }


async def test_a_whole_completion_has_openais_shape() -> None:
    body = (await Face().complete()).json()

    assert body["id"].startswith("cmpl-")
    assert body["object"] == "text_completion"
    assert body["choices"] == [
        {"index": 0, "text": "Hello world", "logprobs": None, "finish_reason": "stop"}
    ]
    assert body["usage"] == USAGE


async def test_ids_are_never_the_same_twice() -> None:
    face = Face()

    ids = {(await face.chat()).json()["id"] for _ in range(3)}

    assert len(ids) == 3


async def test_a_streamed_chat_opens_with_the_role_and_ends_with_the_reason_and_done() -> None:
    response = await Face().chat(stream=True)

    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-muai-model"] == "small"
    assert response.headers["x-muai-engine"] == "scripted"
    chunks = chunks_of(events_of(response))
    assert {chunk["id"] for chunk in chunks} == {chunks[0]["id"]}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert text_of(chunks) == "Hello world"
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    assert all("usage" not in chunk for chunk in chunks)


@pytest.mark.parametrize("more", [{}, {"continuous_usage_stats": False}])
async def test_usage_comes_in_a_chunk_of_its_own_when_asked_for(more: dict[str, Any]) -> None:
    response = await Face().chat(stream=True, stream_options={"include_usage": True, **more})

    chunks = chunks_of(events_of(response))
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == USAGE
    # As OpenAI has it: the others say that they have none.
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


@pytest.mark.parametrize("stream", [False, True])
async def test_several_choices_are_kept_apart(stream: bool) -> None:  # noqa: FBT001 - a parameter of the table
    one, two = say("a", "b", index=0), say("x", "y", index=1, reason=FinishReason.LENGTH)
    mixed = [step for pair in zip(two, one, strict=True) for step in pair]

    response = await Face(ScriptedGenerator(mixed)).chat(n=2, stream=stream)

    if stream:
        chunks = chunks_of(events_of(response))
        assert [text_of(chunks, index) for index in (0, 1)] == ["ab", "xy"]
        return
    told = [
        (choice["index"], choice["message"]["content"], choice["finish_reason"])
        for choice in response.json()["choices"]
    ]
    assert told == [(0, "ab", "stop"), (1, "xy", "length")]


async def test_a_chat_tells_log_probabilities_token_by_token() -> None:
    response = await Face(ScriptedGenerator(TOLD)).chat(logprobs=True, top_logprobs=2)

    told = response.json()["choices"][0]["logprobs"]["content"]
    assert [token["token"] for token in told] == ["Hé", "llo"]
    assert told[0]["bytes"] == [72, 195, 169]
    assert told[1]["logprob"] == -0.5
    assert [other["token"] for other in told[1]["top_logprobs"]] == ["llo", "y"]


async def test_chunks_tell_the_log_probabilities_of_their_own_tokens() -> None:
    response = await Face(ScriptedGenerator(TOLD)).chat(logprobs=True, stream=True)

    chunks = chunks_of(events_of(response))
    told = [
        token["token"]
        for chunk in chunks
        for token in (chunk["choices"][0]["logprobs"] or {}).get("content", [])
    ]
    assert told == ["Hé", "llo"]


async def test_a_completion_tells_log_probabilities_in_the_older_shape() -> None:
    response = await Face(ScriptedGenerator(TOLD)).complete(logprobs=2)

    assert response.json()["choices"][0]["logprobs"] == {
        "tokens": ["Hé", "llo"],
        "token_logprobs": [-0.1, -0.5],
        "top_logprobs": [{"Hé": -0.1}, {"llo": -0.5, "y": -2}],
        "text_offset": [0, 2],
    }


async def test_text_offsets_go_on_over_the_chunks_of_a_stream() -> None:
    response = await Face(ScriptedGenerator(TOLD)).complete(logprobs=1, stream=True)

    chunks = chunks_of(events_of(response))
    told = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert [logprobs["text_offset"] for logprobs in told if logprobs] == [[0], [2]]


async def test_several_prompts_are_numbered_prompt_by_prompt() -> None:
    scripts = [
        [*say("a", index=0), *say("b", index=1)],
        [*say("c", index=0), *say("d", index=1)],
    ]
    face = Face(ScriptedGenerator(scripts=scripts))

    response = await face.complete(prompt=["P", "Q"], n=2)

    body = response.json()
    assert [(c["index"], c["text"]) for c in body["choices"]] == list(enumerate("abcd"))
    assert body["usage"]["prompt_tokens"] == 14
    assert body["usage"]["completion_tokens"] == 4
    assert face.generator.num_open == 0


async def test_several_prompts_stream_together_with_one_end() -> None:
    face = Face(ScriptedGenerator(scripts=[say("a", "b"), say("c")]))

    response = await face.complete(
        prompt=["P", "Q"], stream=True, stream_options={"include_usage": True}
    )

    chunks = chunks_of(events_of(response))
    assert [text_of(chunks, index) for index in (0, 1)] == ["ab", "c"]
    assert chunks[-1]["usage"]["completion_tokens"] == 3


async def test_one_prompt_of_several_that_fails_ends_the_others() -> None:
    from mm_orch.core.errors import EngineCrashedError

    face = Face(ScriptedGenerator(scripts=[say("a", "b"), [EngineCrashedError("It died.")]]))

    response = await face.complete(prompt=["P", "Q"])

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "engine_crashed"
    assert face.generator.num_open == 0


async def test_text_of_all_scripts_survives_both_ways() -> None:
    texts = ["naïve ", "日本語", " 🧑‍🚀", '\n"quoted" \\ \u2028 data: x\n\n']

    whole = await Face(ScriptedGenerator(say(*texts))).chat()
    streamed = await Face(ScriptedGenerator(say(*texts))).chat(stream=True)

    assert whole.json()["choices"][0]["message"]["content"] == "".join(texts)
    assert text_of(chunks_of(events_of(streamed))) == "".join(texts)


async def test_an_answer_without_any_text_still_ends() -> None:
    whole = await Face(ScriptedGenerator(say())).chat()
    streamed = await Face(ScriptedGenerator(say())).chat(stream=True)

    assert whole.json()["choices"][0]["message"]["content"] == ""
    assert events_of(streamed)[-1] == "[DONE]"

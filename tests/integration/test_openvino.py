"""The OpenVINO engine in its worker, with the built-in model: command line and server."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest

from tests.processes import run_cli, start_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mm_orch.models.stored import StoredModel
    from tests.processes import ServerProcess

pytest.importorskip("openvino_genai", reason="openvino: not installed")
pytestmark = pytest.mark.model

CHAT = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "What is machine learning?"}]
GREEDY = {"messages": QUESTION, "temperature": 0, "max_tokens": 16}
ENDLESS = {"messages": QUESTION, "max_tokens": 6000, "ignore_eos": True, "stream": True}
MAX_BATCH_SIZE = 3
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "likes": {"type": "array", "items": {"enum": ["sun", "sea"]}, "maxItems": 3},
    },
    "required": ["name", "age"],
}


def shaped(schema: object, **changes: Any) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}
    messages = [{"role": "user", "content": "Describe a person."}]
    return {"messages": messages, "max_tokens": 400, "response_format": form, **changes}


@pytest.fixture(scope="module")
def openvino_server(
    builtin_model: StoredModel,  # noqa: ARG001 - must be there before the server starts
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServerProcess]:
    server = start_server(
        tmp_path_factory.mktemp("openvino"),
        config={
            "optimization": {
                "engine_preference": ["openvino"],
                "batcher": {"max_batch_size": MAX_BATCH_SIZE},
            }
        },
    )
    yield server
    assert server.stop() == 0


def ask(server: ServerProcess, **changes: Any) -> Any:
    reply = server.request("POST", CHAT, GREEDY | changes)
    assert reply.status == 200, reply.body
    return reply.json


def test_one_question_is_answered_and_the_process_ends(
    builtin_model: StoredModel,  # noqa: ARG001 - must be there
    tmp_path: Path,
) -> None:
    done = run_cli(
        "--engine", "openvino", "--max-tokens", "16", "--temperature", "0",
        "What is machine learning?", directory=tmp_path,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "machine learning" in done.stdout.lower()


def test_an_answer_says_which_engine_gave_it(openvino_server: ServerProcess) -> None:
    reply = openvino_server.request("POST", CHAT, GREEDY)

    assert reply.headers["x-muai-engine"] == "openvino"
    assert "machine learning" in reply.json["choices"][0]["message"]["content"].lower()
    assert reply.json["usage"]["completion_tokens"] == 16


def test_an_answer_comes_as_it_is_made(openvino_server: ServerProcess) -> None:
    with openvino_server.open_stream(GREEDY | {"stream": True}) as stream:
        events = list(stream)
    deltas = [json.loads(event)["choices"][0] for event in events[:-1]]
    text = "".join(delta["delta"].get("content") or "" for delta in deltas)

    assert events[-1] == "[DONE]"
    assert deltas[-1]["finish_reason"] == "length"
    assert len(deltas) > 8
    assert text == ask(openvino_server)["choices"][0]["message"]["content"]


def test_a_prompt_that_was_asked_before_is_told_as_cached(openvino_server: ServerProcess) -> None:
    messages = [{"role": "user", "content": "Tell me of the sea. " * 20}]
    first = ask(openvino_server, messages=messages)
    again = ask(openvino_server, messages=messages)

    usage = again["usage"]
    num_cached = usage["prompt_tokens_details"]["cached_tokens"]
    assert usage["prompt_tokens"] - 32 <= num_cached < usage["prompt_tokens"]
    assert num_cached % 32 == 0
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] < num_cached


def test_several_are_answered_at_the_same_time(openvino_server: ServerProcess) -> None:
    with openvino_server.open_stream(ENDLESS) as endless:
        next(iter(endless))
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: ask(openvino_server), range(8)))

    assert [answer["usage"]["completion_tokens"] for answer in answers] == [16] * 8


def test_clients_that_leave_free_their_places(openvino_server: ServerProcess) -> None:
    for _ in range(2):
        streams = [openvino_server.open_stream(ENDLESS) for _ in range(MAX_BATCH_SIZE)]
        for stream in streams:
            next(iter(stream))
        for stream in streams:
            stream.close()

    # All places were taken by answers that would take minutes.
    assert ask(openvino_server)["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_under_a_plain_schema_is_its_own_and_valid(
    openvino_server: ServerProcess, temperature: float
) -> None:
    body = shaped(PERSON, temperature=temperature, seed=2, n=3, logprobs=True)
    reply = openvino_server.request("POST", CHAT, body)

    assert reply.status == 200, reply.body
    assert reply.headers["x-muai-engine"] == "openvino"
    assert "x-muai-fallback" not in reply.headers
    for choice in reply.json["choices"]:
        text = choice["message"]["content"]
        assert "".join(one["token"] for one in choice["logprobs"]["content"]) == text
        if choice["finish_reason"] == "stop":
            jsonschema_rs.validate(PERSON, json.loads(text))
    assert "stop" in {choice["finish_reason"] for choice in reply.json["choices"]}


def test_guided_answers_that_are_left_disturb_no_others(openvino_server: ServerProcess) -> None:
    endless = shaped({"type": "array", "minItems": 128}, stream=True)
    streams = [openvino_server.open_stream(endless) for _ in range(MAX_BATCH_SIZE - 1)]
    for stream in streams:
        next(iter(stream))

    beside = ask(openvino_server)
    for stream in streams:
        stream.close()
    with ThreadPoolExecutor(8) as pool:
        bodies = [shaped(PERSON, temperature=0) if n % 2 else GREEDY for n in range(8)]
        replies = list(pool.map(lambda one: openvino_server.request("POST", CHAT, one), bodies))

    for answer in (beside, *(reply.json for reply in replies[::2])):
        assert "machine learning" in answer["choices"][0]["message"]["content"].lower()
    for reply in replies[1::2]:
        jsonschema_rs.validate(PERSON, json.loads(reply.json["choices"][0]["message"]["content"]))


def test_penalties_make_repetition_rarer(openvino_server: ServerProcess) -> None:
    messages = [{"role": "user", "content": "Repeat the word tree without end: tree tree tree"}]

    def count_words(**changes: Any) -> int:
        answer = ask(openvino_server, messages=messages, max_tokens=60, ignore_eos=True, **changes)
        return len(set(answer["choices"][0]["message"]["content"].split()))

    assert count_words(frequency_penalty=2.0, presence_penalty=2.0) > 2 * count_words()


def test_log_probabilities_of_the_answer_are_told(openvino_server: ServerProcess) -> None:
    choice = ask(openvino_server, logprobs=True)["choices"][0]

    assert (
        "".join(token["token"] for token in choice["logprobs"]["content"])
        == (choice["message"]["content"])
    )
    assert all(token["logprob"] <= 0 for token in choice["logprobs"]["content"])

"""The official client on one server that serves a generating and an embedding model at once."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
from typing import TYPE_CHECKING

import numpy as np
import openai
import pytest

from tests.conftest import EMBEDDING_MODEL, EMBEDDING_SOURCE
from tests.e2e.test_schemathesis import run_schemathesis
from tests.processes import start_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.processes import ServerProcess

pytestmark = [
    pytest.mark.model,
    pytest.mark.usefixtures("builtin_model", "embedding_model"),
]

CHAT_MODEL = "smollm2-135m"
HAS_ONNX = importlib.util.find_spec("onnxruntime") is not None
TEXTS = [
    "How do I reset my password?",
    "I forgot my login and need a new one.",
    "The recipe needs two eggs and a cup of flour.",
]


@pytest.fixture(scope="module", params=["onnx", "pytorch"] if HAS_ONNX else ["pytorch"])
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def both(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the built-in chat model and the small embedding model."""
    config = {
        "models": {
            EMBEDDING_MODEL: {
                "source": EMBEDDING_SOURCE,
                "task": "embed",
                "aliases": ["text-embedding-3-small"],
                "engines": [engine],
            }
        },
        "monitoring": {"server": {"preload_models": [EMBEDDING_MODEL, CHAT_MODEL]}},
    }
    server = start_server(tmp_path_factory.mktemp("both"), config=config)
    yield server
    server.stop()


@pytest.fixture
def client(both: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{both.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def embed(client: openai.OpenAI, texts: Sequence[str], **options: object) -> NDArray[np.float32]:
    answer = client.embeddings.create(model=EMBEDDING_MODEL, input=list(texts), **options)  # type: ignore[call-overload]  # options by name
    assert [entry.index for entry in answer.data] == list(range(len(texts)))
    return np.array([entry.embedding for entry in answer.data], dtype=np.float32)


def test_a_text_has_a_vector_and_its_tokens_are_counted(client: openai.OpenAI) -> None:
    # Without a word on it the client asks for base64 and unpacks it.
    answer = client.embeddings.create(model="text-embedding-3-small", input="hello world")

    assert answer.object == "list"
    assert answer.model == EMBEDDING_MODEL
    assert len(answer.data[0].embedding) == 384
    assert np.linalg.norm(answer.data[0].embedding) == pytest.approx(1, abs=1e-5)
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (4, 4)


def test_similar_texts_are_nearer_than_others(client: openai.OpenAI) -> None:
    vectors = embed(client, TEXTS)

    similarities = vectors @ vectors.T
    assert similarities[0, 1] > similarities[0, 2] + 0.3


def test_both_formats_hold_the_same_numbers(client: openai.OpenAI) -> None:
    unpacked = embed(client, TEXTS)
    answer = client.embeddings.create(
        model=EMBEDDING_MODEL, input=TEXTS, encoding_format="base64", dimensions=384
    )

    assert np.array_equal(embed(client, TEXTS, encoding_format="float"), unpacked)
    # Who asks for it by name gets it as it is.
    by_hand = [np.frombuffer(base64.b64decode(str(one.embedding)), "<f4") for one in answer.data]
    assert np.array_equal(np.stack(by_hand), unpacked)


def test_token_ids_are_taken_as_they_are(client: openai.OpenAI) -> None:
    [from_text] = embed(client, ["hello"])

    answer = client.embeddings.create(model=EMBEDDING_MODEL, input=[[101, 7592, 102], [101]])

    assert answer.usage.prompt_tokens == 4
    assert answer.data[0].embedding == pytest.approx(from_text, abs=1e-5)


def test_a_text_has_the_same_vector_among_many(client: openai.OpenAI) -> None:
    many = [f"{text} {'and so on ' * (index % 20)}" for index in range(30) for text in TEXTS]
    together = embed(client, many)

    for index in (0, 41, 89):
        assert together[index] == pytest.approx(embed(client, [many[index]])[0], abs=1e-5)


def test_what_a_model_is_for_is_told(client: openai.OpenAI, engine: str) -> None:
    models = {model.id: model.to_dict() for model in client.models.list()}

    workflows = {name: model for name, model in models.items() if name.startswith("workflow/")}
    assert set(models) == {CHAT_MODEL, EMBEDDING_MODEL, *workflows}
    assert {one["task"] for one in (models[CHAT_MODEL], *workflows.values())} == {"generate"}
    assert models[EMBEDDING_MODEL]["task"] == "embed"
    assert models[EMBEDDING_MODEL]["engine"] == engine
    assert models[EMBEDDING_MODEL]["dimensions"] == 384
    assert models[CHAT_MODEL]["dimensions"] is None


def test_each_model_refuses_the_others_task(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=f"is needed here: {EMBEDDING_MODEL}"):
        client.embeddings.create(model=CHAT_MODEL, input="a")
    with pytest.raises(openai.BadRequestError, match=f"is needed here: {CHAT_MODEL}"):
        client.chat.completions.create(
            model=EMBEDDING_MODEL, messages=[{"role": "user", "content": "a"}]
        )


def test_a_text_that_is_too_long_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"input\[1\] has 302 tokens") as refusal:
        embed(client, ["a", "word " * 300])

    assert refusal.value.code == "context_length_exceeded"


def test_vectors_are_not_cut_where_the_model_was_not_trained_for_it(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="dimensions is 64"):
        embed(client, ["a"], dimensions=64)


async def test_chats_and_vectors_are_answered_at_the_same_time(both: ServerProcess) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{both.url}/v1", api_key="none", max_retries=0
    ) as client:
        chats = [
            client.chat.completions.create(
                model=CHAT_MODEL,
                messages=[{"role": "user", "content": "What is the capital of Japan?"}],
                temperature=0,
                max_tokens=12,
            )
            for _ in range(4)
        ]
        vectors = [
            client.embeddings.create(model=EMBEDDING_MODEL, input=[f"{text} {index}"] * 5)
            for index in range(8)
            for text in TEXTS
        ]
        answers = await asyncio.gather(*chats)
        found = await asyncio.gather(*vectors)

    assert all("Tokyo" in (answer.choices[0].message.content or "") for answer in answers)
    assert all(len(one.data) == 5 for one in found)


def test_the_description_is_true_for_whatever_is_sent(both: ServerProcess, tmp_path: Path) -> None:
    run_schemathesis(both, tmp_path, "--include-path=/v1/embeddings")

    assert both.request("GET", "/health").json["status"] == "healthy"


def test_requests_to_embed_are_counted(both: ServerProcess, engine: str) -> None:
    def count() -> dict[str, float]:
        labels = f'engine="{engine}",model="{EMBEDDING_MODEL}"'
        names = (
            f'inference_requests_total{{{labels},status="success"}}',
            f"prompt_tokens_total{{{labels}}}",
            f"queue_wait_seconds_count{{{labels}}}",
            f'step_duration_seconds_count{{{labels},phase="embed"}}',
        )
        lines = both.request("GET", "/metrics").body.decode().splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(values[name]) for name in names}

    before = count()
    both.request("POST", "/v1/embeddings", {"model": EMBEDDING_MODEL, "input": ["hello", "you"]})
    after = count()

    assert [after[name] - before[name] for name in after] == [1, 6, 1, 1]

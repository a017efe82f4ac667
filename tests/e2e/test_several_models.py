"""One server with generating models of four architectures and an embedding model, all at once."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import openai
import psutil
import pytest

from tests import tiny_models
from tests.conftest import EMBEDDING_MODEL, EMBEDDING_SOURCE
from tests.processes import start_server
from tests.tiny_tokenizer import write_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes import ServerProcess

pytestmark = [
    pytest.mark.model,
    pytest.mark.usefixtures("builtin_model", "embedding_model"),
]

BUILT_IN = "smollm2-135m"
TINY = {
    "tiny-qwen3": (tiny_models.make_qwen3, ["pytorch"]),
    "tiny-mistral": (tiny_models.make_mistral, ["onnx", "pytorch"]),
    "tiny-olmo2": (tiny_models.make_olmo2, ["pytorch"]),
}
PROMPTS = ["a b c", '{"name": "the', "list: true, false", "the fox age 12"]
TEXTS = ["The recipe needs two eggs.", "I forgot my password."]


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    models: dict[str, Any] = {
        EMBEDDING_MODEL: {
            "source": EMBEDDING_SOURCE,
            "task": "embed",
            "engines": ["onnx", "pytorch"],
        }
    }
    for name, (make, engines) in TINY.items():
        directory = write_tokenizer(make(tmp_path_factory.mktemp(name)))
        models[name] = {"source": f"path:{directory}", "dtype": "fp32", "engines": engines}
    config = {
        "models": models,
        "system": {"max_cached_models": 8},
        "monitoring": {"server": {"preload_models": [BUILT_IN, *models]}},
    }
    server = start_server(tmp_path_factory.mktemp("several"), config=config)
    yield server
    assert server.stop() == 0


async def test_all_answer_at_once_as_each_does_alone(several: ServerProcess) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{several.url}/v1", api_key="none", max_retries=0
    ) as client:

        async def complete(model: str, prompt: str) -> str:
            done = await client.completions.create(
                model=model, prompt=prompt, max_tokens=24, temperature=0
            )
            assert done.model == model
            return done.choices[0].text

        async def embed(text: str) -> list[float]:
            made = await client.embeddings.create(model=EMBEDDING_MODEL, input=text)
            return made.data[0].embedding

        asked = [(model, prompt) for prompt in PROMPTS for model in TINY]
        alone = [await complete(*one) for one in asked]
        vectors = [await embed(text) for text in TEXTS]
        together = await asyncio.gather(
            *(complete(*one) for one in asked),
            *(complete(BUILT_IN, prompt) for prompt in PROMPTS),
            *(embed(text) for text in TEXTS),
        )

    texts, found = together[: len(asked)], together[-len(TEXTS) :]
    assert texts == alone
    # Models that differ in nothing but their names would say the same.
    assert len(set(alone[: len(TINY)])) == len(TINY)
    assert all(together[len(asked) : -len(TEXTS)])
    np.testing.assert_allclose(np.array(found), np.array(vectors), atol=1e-5)


def wait_for_memory(server: ServerProcess, model: str, least: float, most: float) -> None:
    end_s = time.monotonic() + 60
    while not least < (found := server.request("GET", f"/api/models/{model}").json["memory_bytes"]):
        assert time.monotonic() < end_s, (model, found, least)
        time.sleep(0.05)
    assert found < most, (model, found, most)


def test_each_has_a_worker_and_measured_memory(several: ServerProcess) -> None:
    models = several.request("GET", "/api/models").json["models"]

    assert {model["name"] for model in models} == {BUILT_IN, EMBEDDING_MODEL, *TINY}
    assert all(model["phase"] == "ready" for model in models)
    pids = {model["worker_pid"] for model in models}
    assert len(pids) == len(models)
    for name, pid in [(model["name"], model["worker_pid"]) for model in models]:
        resident = psutil.Process(pid).memory_info().rss
        # It is measured now and then, and what workers share is shared out among them.
        wait_for_memory(several, name, 0.3 * resident, 3 * resident)

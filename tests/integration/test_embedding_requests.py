"""Requests to embed, through the whole path but HTTP: real tokeniser, real workers, echo engine."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mm_orch import MuAI
from mm_orch.app import open_runtime
from mm_orch.config import load_config
from mm_orch.core.embedding import EmbeddingRequest
from mm_orch.core.errors import (
    ContextLengthError,
    DeadlineError,
    DrainingError,
    EngineCrashedError,
    EngineFailedError,
    InvalidValueError,
    ModelUnavailableError,
    PoisonedRequestError,
    UnsupportedError,
)
from mm_orch.core.events import RequestFinished, RequestStatus
from mm_orch.core.generation import GenerationRequest, TextPrompt
from mm_orch.optimization.engines.echo_embedding import DIMENSIONS
from tests.conftest import EMBEDDING_MODEL, EMBEDDING_SOURCE
from tests.integration.test_worker import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from mm_orch.app import Runtime
    from mm_orch.config import Config
    from mm_orch.core.embedding import EmbeddingInput
    from mm_orch.workers.worker import Worker

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("embedding_model")]


def config_of(more: Mapping[str, object] | None = None, **options: object) -> Config:
    entry = {"source": EMBEDDING_SOURCE, "task": "embed", "aliases": ["vectors"], **options}
    overrides = {f"models.{EMBEDDING_MODEL}.{key}": value for key, value in entry.items()}
    return load_config(path=None, environ={}, overrides={**overrides, **(more or {})}).config


def request(*inputs: EmbeddingInput, **values: Any) -> EmbeddingRequest:
    return EmbeddingRequest(request_id="r", inputs=inputs, **values)


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    async with open_runtime(config_of(), engine="echo") as runtime:
        yield runtime


@pytest.fixture
def recorder(runtime: Runtime) -> Recorder:
    recorder = Recorder()
    runtime.observer._observers = (recorder,)  # type: ignore[attr-defined]  # of the fan-out
    return recorder


async def find_worker(runtime: Runtime) -> Worker:
    return await runtime.manager.acquire(EMBEDDING_MODEL)


async def wait_until_sent(worker: Worker) -> None:
    async with asyncio.timeout(30):
        while not worker._streams:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)


def ends(recorder: Recorder) -> list[RequestFinished]:
    return [event for event in recorder.events if isinstance(event, RequestFinished)]


async def test_texts_and_token_ids_get_their_vectors_in_order(
    runtime: Runtime, recorder: Recorder
) -> None:
    hello = (101, 7592, 102)

    found = await runtime.embedder.embed(request("hello", "hello world", hello))

    assert found.vectors.shape == (3, DIMENSIONS)
    assert found.vectors[0] == pytest.approx(found.vectors[2])
    assert found.vectors[0] @ found.vectors[1] < 0.999
    assert (found.model, found.engine, found.num_tokens) == (EMBEDDING_MODEL, "echo", 10)
    [end] = ends(recorder)
    assert (end.status, end.num_prompt_tokens, end.num_generated_tokens) == (
        RequestStatus.SUCCESS,
        10,
        0,
    )
    assert end.queue_wait_s is not None
    await runtime.orchestrator.wait_until_idle()


async def test_many_requests_at_once_get_what_is_theirs(runtime: Runtime) -> None:
    texts = [f"text number {index} " * (index % 7 + 1) for index in range(40)]
    alone = [(await runtime.embedder.embed(request(text))).vectors[0] for text in texts]

    together = await asyncio.gather(
        *(runtime.embedder.embed(request(*texts[index:], model="vectors")) for index in range(40))
    )

    for index, found in enumerate(together):
        assert np.abs(found.vectors - np.stack(alone[index:])).max() < 1e-6


@pytest.mark.parametrize(
    ("values", "error", "says"),
    [
        ({"inputs": ("ok", "word " * 300)}, ContextLengthError, r"input\[1\] has 302 tokens"),
        ({"inputs": ("",)}, InvalidValueError, r"input\[0\] is empty"),
        ({"inputs": ((10**6,),)}, InvalidValueError, "vocabulary of minilm"),
        ({"inputs": ("a",), "dimensions": 16}, InvalidValueError, "minilm gives 32"),
        (
            {"inputs": ("a",), "model": "smollm2-135m"},
            UnsupportedError,
            "smollm2-135m generates text; a model that embeds texts is needed here: minilm",
        ),
    ],
)
async def test_what_cannot_be_embedded_is_the_callers_error(
    values: dict[str, Any],
    error: type[Exception],
    says: str,
    runtime: Runtime,
    recorder: Recorder,
) -> None:
    with pytest.raises(error, match=says):
        await runtime.embedder.embed(EmbeddingRequest(request_id="r", **values))

    assert [end.status for end in ends(recorder)] == [RequestStatus.REJECTED]
    await runtime.orchestrator.wait_until_idle()


async def test_a_model_that_embeds_does_not_generate(runtime: Runtime) -> None:
    asked = GenerationRequest(request_id="r", prompt=TextPrompt("a"), model=EMBEDDING_MODEL)

    with pytest.raises(UnsupportedError, match=r"minilm embeds texts; .*: smollm2-135m\."):
        async with runtime.orchestrator.open(asked):
            pass


async def test_a_request_goes_on_with_the_next_worker_when_its_own_dies(
    runtime: Runtime, recorder: Recorder
) -> None:
    before = (await runtime.embedder.embed(request("hello", "world"))).vectors
    worker = await find_worker(runtime)
    os.kill(worker.pid, signal.SIGSTOP)
    embedding = asyncio.create_task(runtime.embedder.embed(request("hello", "world")))
    await wait_until_sent(worker)

    os.kill(worker.pid, signal.SIGKILL)

    assert (await embedding).vectors == pytest.approx(before)
    assert (await find_worker(runtime)).pid != worker.pid
    assert [end.status for end in ends(recorder)] == [RequestStatus.SUCCESS] * 2


async def test_the_deadline_counts_while_the_worker_computes(
    runtime: Runtime, recorder: Recorder
) -> None:
    worker = await find_worker(runtime)
    os.kill(worker.pid, signal.SIGSTOP)

    with pytest.raises(DeadlineError, match=r"not complete after 0\.3 s"):
        await runtime.embedder.embed(request("hello", timeout_s=0.3))

    assert [end.status for end in ends(recorder)] == [RequestStatus.TIMEOUT]
    assert not worker._streams
    os.kill(worker.pid, signal.SIGCONT)
    assert (await runtime.embedder.embed(request("hello"))).vectors.shape == (1, DIMENSIONS)


async def test_a_caller_that_gives_up_frees_its_place(runtime: Runtime, recorder: Recorder) -> None:
    worker = await find_worker(runtime)
    os.kill(worker.pid, signal.SIGSTOP)
    embedding = asyncio.create_task(runtime.embedder.embed(request("hello")))
    await wait_until_sent(worker)

    embedding.cancel()
    await asyncio.gather(embedding, return_exceptions=True)

    os.kill(worker.pid, signal.SIGCONT)
    await runtime.orchestrator.wait_until_idle()
    assert [end.status for end in ends(recorder)] == [RequestStatus.CANCELLED]


async def test_the_end_of_the_server_ends_what_is_being_embedded(runtime: Runtime) -> None:
    worker = await find_worker(runtime)
    os.kill(worker.pid, signal.SIGSTOP)
    embedding = asyncio.create_task(runtime.embedder.embed(request("hello")))
    await wait_until_sent(worker)

    runtime.orchestrator.begin_drain()
    runtime.orchestrator.break_off_all()

    with pytest.raises(DrainingError, match="shutting down"):
        await embedding
    with pytest.raises(DrainingError, match="takes no new requests"):
        await runtime.embedder.embed(request("hello"))
    os.kill(worker.pid, signal.SIGCONT)


_PLUG_IN = """
import os
from mm_orch.core.errors import EngineFailedError
from mm_orch.optimization.engines.echo_embedding import EchoEmbedder

class DyingEmbedder(EchoEmbedder):
    name = "dying"
    def embed(self, batch):
        os._exit(7)

class FailingEmbedder(EchoEmbedder):
    name = "failing"
    def embed(self, batch):
        raise EngineFailedError("never works")
"""


@pytest.fixture
def odd_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a distribution with two embedding engines, for workers and for this process."""
    (tmp_path / "odd_embedders.py").write_text(_PLUG_IN)
    metadata = tmp_path / "odd_embedders-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-embedders\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "[mm_orch.embedding_engines]\n"
        "dying = odd_embedders:DyingEmbedder\nfailing = odd_embedders:FailingEmbedder\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("odd_engines")
async def test_a_request_goes_on_with_the_next_engine_when_one_dies() -> None:
    async with open_runtime(config_of(engines=["dying", "echo"])) as runtime:
        found = await runtime.embedder.embed(request("hello"))

    assert found.engine == "echo"
    [failover] = found.failovers
    assert (failover.from_engine, failover.to_engine) == ("dying", "echo")
    assert "exit code 7" in failover.reason
    assert found.fallback is not None
    assert (found.fallback.wanted, found.fallback.engine) == ("dying", "echo")


@pytest.mark.usefixtures("odd_engines")
async def test_an_engine_that_fails_again_and_again_is_told_of() -> None:
    async with open_runtime(config_of(engines=["failing"])) as runtime:
        with pytest.raises(EngineFailedError, match="never works"):
            await runtime.embedder.embed(request("hello"))


@pytest.mark.usefixtures("odd_engines")
async def test_a_request_that_kills_workers_is_not_tried_for_ever() -> None:
    async with open_runtime(config_of(engines=["dying"])) as runtime:
        with pytest.raises(PoisonedRequestError, match="2 workers of minilm ended"):
            await runtime.embedder.embed(request("hello"))


@pytest.mark.usefixtures("odd_engines")
async def test_without_failovers_the_first_error_reaches_the_caller() -> None:
    config = config_of({"orchestration.max_failovers": 0}, engines=["dying"])
    async with open_runtime(config) as runtime:
        with pytest.raises(EngineCrashedError, match="exit code 7"):
            await runtime.embedder.embed(request("hello"))


async def test_an_engine_that_does_not_embed_is_passed_over_with_the_reason() -> None:
    async with open_runtime(config_of(engines=["openvino"])) as runtime:
        with pytest.raises(ModelUnavailableError, match="openvino does not run embedding models"):
            await runtime.embedder.embed(request("hello"))


def test_plain_code_gets_vectors_that_mean_something() -> None:
    with MuAI(config_of(engines=["onnx", "pytorch"])) as muai:
        found = muai.embed(["A man eats.", "Someone has a meal.", "Shares fell today."])
        [alone] = muai.embed("A man eats.", model="vectors").vectors
        status = muai.status()
        with pytest.raises(InvalidValueError, match="1 to 2048"):
            muai.embed([])
        with pytest.raises(InvalidValueError, match="An embedding option is wrong"):
            muai.embed("a", dimensions="many")  # type: ignore[arg-type]  # that is the point

    near, far = found.vectors[0] @ found.vectors[1], found.vectors[0] @ found.vectors[2]
    assert near > far + 0.3
    assert alone == pytest.approx(found.vectors[0], abs=1e-5)
    [report] = [model for model in status.models if model.name == EMBEDDING_MODEL]
    assert (report.task, report.dimensions, report.context_length) == ("embed", 384, 256)
    assert report.engine in {"onnx", "pytorch"}

"""The DeepSpeed engine on real ranks: what they compute together, and that they end together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest
import zmq.asyncio

from mm_orch.batching.batcher import BatcherSpec
from mm_orch.core.errors import EngineCrashedError, EngineStartError
from mm_orch.core.generation import Message, SamplingParams, TokenChunk
from mm_orch.models.chat_template import ChatTemplate, encode_chat
from mm_orch.models.text import TextCodec
from mm_orch.optimization.registry import load_engine
from mm_orch.workers.messages import CacheSpec, SequenceOrder, WorkerSpec
from mm_orch.workers.worker import Worker
from tests.available import require_engine
from tests.engines.greedy import PROMPT, greedy_with_pytorch, spec_of
from tests.processes import run_cli
from tests.stepping import greedy
from tests.tiny_models import (
    make_llama,
    make_mistral,
    make_olmo2,
    make_qwen3,
    make_windowed_qwen,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from mm_orch.core.events import Event
    from mm_orch.models.stored import StoredModel
    from mm_orch.optimization.engines.contract import EngineSpec, ScheduledSequence, StepBackend
    from mm_orch.workers.stream import TokenStream

# Ranks import torch and DeepSpeed each time; on a busy machine that takes its time.
pytestmark = pytest.mark.timeout(900)

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where shm_open puts its names
TIMEOUT_S = 300
POLL_S = 0.05
NUM_TOKENS = 200


@pytest.fixture(autouse=True, scope="module")
def _engine() -> None:
    require_engine("deepspeed")


@pytest.fixture(scope="module")
def compiled(data_directory: Path) -> Path:
    """Where servers keep what they compile: it is compiled once."""
    return data_directory / "compiled"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, compiled: Path) -> EngineSpec:
    return spec_of(make_llama(tmp_path_factory.mktemp("tiny")), compiled, tensor_parallel=2)


@pytest.fixture
def backend() -> Iterator[StepBackend]:
    backend = load_engine("deepspeed")()
    yield backend
    backend.stop()


@pytest.fixture
def names() -> Callable[[], set[str]]:
    """What DeepSpeed has in shared memory that was not there before."""
    before = set(SHARED_MEMORY.glob("deepspeed_*"))
    return lambda: {path.name for path in set(SHARED_MEMORY.glob("deepspeed_*")) - before}


@pytest.mark.model
@pytest.mark.parametrize("num_ranks", [1, 2])
def test_the_built_in_model_says_what_it_says_on_pytorch(
    backend: StepBackend, builtin_model: StoredModel, compiled: Path, num_ranks: int
) -> None:
    directory = Path(builtin_model.directory)
    codec = TextCodec.from_directory(directory)
    questions = ["What is machine learning?", "Why is the sky blue?", "Write a haiku about rain."]
    template = ChatTemplate.find_in_directory(directory)
    assert template is not None
    prompts = [
        encode_chat(codec, template, (Message(role="user", content=question),))
        for question in questions
    ]
    spec = spec_of(directory, compiled, tensor_parallel=num_ranks)

    facts = backend.start(spec)

    assert (facts.dtype, facts.device) == ("fp32", "cpu")
    assert facts.kv_block_bytes == 2 * 30 * 3 * 64 * 4 * facts.kv_block_tokens
    outputs = [greedy(backend.step, prompt, 16) for prompt in prompts]
    assert outputs == greedy_with_pytorch(spec, prompts, 16)


@pytest.mark.parametrize("make_model", [make_windowed_qwen, make_qwen3, make_mistral])
def test_other_models_are_shared_out_without_a_change(
    backend: StepBackend, tmp_path: Path, compiled: Path, make_model: Callable[[Path], Path]
) -> None:
    spec = spec_of(make_model(tmp_path), compiled, tensor_parallel=2)

    backend.start(spec)

    assert [greedy(backend.step, PROMPT, 20)] == greedy_with_pytorch(spec, [PROMPT], 20)


def test_bf16_is_computed_where_it_is_asked_for(backend: StepBackend, tiny: EngineSpec) -> None:
    facts = backend.start(msgspec.structs.replace(tiny, dtype="bf16"))

    assert facts.dtype == "bf16"
    assert len(greedy(backend.step, PROMPT, 8)) == 8


def test_a_model_that_deepspeed_shares_out_wrongly_is_refused(
    backend: StepBackend, tmp_path: Path, compiled: Path, names: Callable[[], set[str]]
) -> None:
    # It norms all heads together, which no rank has.
    spec = spec_of(make_olmo2(tmp_path), compiled, tensor_parallel=2)

    with pytest.raises(EngineStartError, match=r"DeepSpeed cannot share") as caught:
        backend.start(spec)

    assert "tensor_parallel to 1" in str(caught.value)
    assert running_children(psutil.Process()) == {}
    assert names() == set()


def test_more_ranks_than_heads_are_refused_before_any_is_cut(
    backend: StepBackend, tiny: EngineSpec
) -> None:
    spec = msgspec.structs.replace(tiny, num_threads=3, settings={"tensor_parallel": 3})

    with pytest.raises(EngineStartError, match=r"tiny has 2 key-value heads.*3 ranks"):
        backend.start(spec)

    assert running_children(psutil.Process()) == {}


def test_injected_layers_with_our_attention_compute_what_the_model_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiled: Path
) -> None:
    """On DeepSpeed's own torch operations, which stand in for kernels that a device lacks."""
    from deepspeed.ops.transformer.inference.op_binding.base import BaseOp

    from mm_orch.optimization.engines.deepspeed.messages import RankOrder
    from mm_orch.optimization.engines.deepspeed.rank import Rank
    from mm_orch.optimization.engines.pytorch.packed import pack
    from mm_orch.optimization.engines.sampling import sample

    monkeypatch.setattr(BaseOp, "inference_module", object())
    order = RankOrder(
        spec=spec_of(make_llama(tmp_path, num_kv_heads=4), compiled),
        rank=0,
        num_ranks=1,
        num_threads=2,
        dtype="fp32",
        device="cpu",
        port=0,
        uses_shared_memory=False,
        wants_kernels=True,
    )
    rank = Rank(order, None)

    def step(batch: list[ScheduledSequence]) -> list[TokenChunk]:
        logits = rank.compute(pack(batch, rank.device))
        return sample(logits, [scheduled.sequence for scheduled in batch])

    assert [greedy(step, PROMPT, 20)] == greedy_with_pytorch(order.spec, [PROMPT], 20)


def test_a_second_model_with_ranks_in_one_process_is_refused_and_the_first_goes_on(
    backend: StepBackend, tiny: EngineSpec
) -> None:
    backend.start(tiny)
    expected = greedy(backend.step, PROMPT, 8)

    with pytest.raises(EngineStartError, match=r"a rank of another model already"):
        load_engine("deepspeed")().start(tiny)

    assert greedy(backend.step, PROMPT, 8) == expected


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_is_not(
    backend: StepBackend, tiny: EngineSpec
) -> None:
    prefix = f"deepspeed_allreduce_buffer_{os.getuid()}_127.0.0.1_0"
    left, used = SHARED_MEMORY / f"{prefix}_0", SHARED_MEMORY / f"{prefix}_1"
    left.write_bytes(b"left")
    try:
        with used.open("wb"):
            backend.start(tiny)

            assert not left.exists()
            assert used.exists()
    finally:
        used.unlink(missing_ok=True)
        left.unlink(missing_ok=True)


def running_children(parent: psutil.Process) -> dict[psutil.Process, list[str]]:
    """Return the processes that it has started and that run, with their commands."""
    commands = {}
    for child in parent.children():
        # A compiler may end while it is looked at; a zombie is NoSuchProcess too.
        with contextlib.suppress(psutil.NoSuchProcess):
            commands[child] = child.cmdline()
    return commands


class Silence:
    def observe(self, event: Event) -> None:
        """Nobody asks."""


class Ranks:
    """A worker with two ranks, and how its processes stand."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.first = psutil.Process(worker.pid)

    async def find_follower(self) -> psutil.Process:
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                for process, command in running_children(self.first).items():
                    if any("deepspeed.follower" in part for part in command):
                        return process
                await asyncio.sleep(POLL_S)

    def stream(self) -> TokenStream:
        params = SamplingParams(max_tokens=NUM_TOKENS, temperature=0.0, ignore_eos=True)
        order = SequenceOrder(sequence_id="a", token_ids=tuple(PROMPT), params=params)
        return self.worker.submit([order])


@pytest.fixture
async def ranks(tiny: EngineSpec) -> AsyncIterator[Ranks]:
    context = zmq.asyncio.Context()
    spec = WorkerSpec(
        address="",
        engine="deepspeed",
        engine_spec=tiny,
        batcher=BatcherSpec(max_batch_size=4, max_batch_tokens=64),
        cache=CacheSpec(),
    )
    worker = await Worker.launch(spec, context=context, observer=Silence())
    yield Ranks(worker)
    await worker.stop()
    context.term()


async def read(stream: TokenStream) -> list[int]:
    tokens: list[int] = []
    while not stream.is_done:
        update = await stream.next()
        if isinstance(update, TokenChunk):
            tokens.extend(update.token_ids)
    return tokens


async def read_some(stream: TokenStream) -> None:
    while not isinstance(await stream.next(), TokenChunk):
        pass


def wait_for_end(process: psutil.Process) -> None:
    process.wait(60)


async def test_a_stopped_worker_leaves_no_process_and_no_shared_memory(
    ranks: Ranks, names: Callable[[], set[str]]
) -> None:
    await ranks.worker.wait_until_ready()
    follower = await ranks.find_follower()
    watching = asyncio.create_task(ranks.worker.watch())
    assert len(await read(ranks.stream())) == NUM_TOKENS
    assert names() == set()

    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await ranks.worker.stop()

    assert not ranks.first.is_running()
    await asyncio.to_thread(wait_for_end, follower)
    assert names() == set()


async def test_a_killed_follower_takes_the_worker_with_it_in_the_middle_of_an_answer(
    ranks: Ranks, names: Callable[[], set[str]]
) -> None:
    await ranks.worker.wait_until_ready()
    follower = await ranks.find_follower()
    watching = asyncio.create_task(ranks.worker.watch())
    stream = ranks.stream()
    await read_some(stream)

    follower.kill()

    async with asyncio.timeout(TIMEOUT_S):
        with pytest.raises(EngineCrashedError, match="exit code 4"):
            await read(stream)
        assert "rank 1 ended with exit code -9" in await watching
    assert names() == set()


async def test_a_follower_killed_while_nothing_runs_takes_the_worker_with_it(ranks: Ranks) -> None:
    await ranks.worker.wait_until_ready()
    follower = await ranks.find_follower()

    follower.kill()

    async with asyncio.timeout(TIMEOUT_S):
        assert (await ranks.worker.watch()).startswith("exit code 4")


async def test_a_follower_killed_while_it_loads_fails_the_start(ranks: Ranks) -> None:
    follower = await ranks.find_follower()

    follower.kill()

    async with asyncio.timeout(TIMEOUT_S):
        with pytest.raises(EngineStartError, match=r"rank 1|2 ranks"):
            await ranks.worker.wait_until_ready()


async def test_a_killed_first_rank_leaves_no_process_and_no_shared_memory(
    ranks: Ranks, names: Callable[[], set[str]]
) -> None:
    await ranks.worker.wait_until_ready()
    follower = await ranks.find_follower()
    watching = asyncio.create_task(ranks.worker.watch())
    stream = ranks.stream()
    await read_some(stream)

    os.kill(ranks.worker.pid, signal.SIGKILL)

    with pytest.raises(EngineCrashedError, match="killed by SIGKILL"):
        await read(stream)
    await watching
    await asyncio.to_thread(wait_for_end, follower)
    assert names() == set()


@pytest.mark.model
def test_the_command_line_answers_with_two_ranks(
    builtin_model: StoredModel,  # noqa: ARG001 - must be there before the command runs
    tmp_path: Path,
) -> None:
    path = tmp_path / "two.yaml"
    path.write_text("optimization: {deepspeed: {tensor_parallel: 2, dtype: fp32}}")
    begin_s = time.time()

    result = run_cli(
        *("--config", str(path), "--engine", "deepspeed", "--max-tokens", "16"),
        "What is machine learning?",
        directory=tmp_path,
        timeout_s=TIMEOUT_S,
    )

    assert result.returncode == 0, result.stderr
    assert "machine learning" in result.stdout.lower()
    leftovers = [p for p in SHARED_MEMORY.glob("deepspeed_*") if p.stat().st_mtime > begin_s]
    assert leftovers == []

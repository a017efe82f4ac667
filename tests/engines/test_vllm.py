"""The vLLM engine on the built-in model and on its own processes; runs in vLLM's environment."""

from __future__ import annotations

import asyncio
import json
import os
import select
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psutil
import pytest
import zmq.asyncio
from tokenizers import Tokenizer

from mm_orch.batching.batcher import BatcherSpec
from mm_orch.core.errors import EngineCrashedError, EngineStartError
from mm_orch.core.generation import FinishReason, SamplingParams, SequenceStarted, TokenChunk
from mm_orch.core.guide import Guide, JsonSchemaShape
from mm_orch.optimization.engines.contract import EngineSpec
from mm_orch.optimization.engines.vllm.engine import VllmEngine
from mm_orch.workers.messages import CacheSpec, SequenceOrder, WorkerSpec
from mm_orch.workers.worker import Worker
from tests.available import require_engine
from tests.contracts.streaming import make, run
from tests.recorder import Recorder
from tests.tiny_models import EOS_TOKEN_ID, make_wide_llama

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from mm_orch.models.stored import StoredModel
    from mm_orch.optimization.engines.contract import Sequence
    from mm_orch.workers.stream import TokenStream

PROMPTS = (
    "Once upon a time there was a small village by the sea, where",
    "The three primary colours are",
    "def add(a, b):\n    return",
)
GREEDY = SamplingParams(max_tokens=16, temperature=0.0, ignore_eos=True)
SOON_S = 20


@pytest.fixture(scope="module", autouse=True)
def _needs_vllm() -> None:
    require_engine("vllm")


@pytest.fixture(scope="module")
def spec(builtin_model: StoredModel, tmp_path_factory: pytest.TempPathFactory) -> EngineSpec:
    return EngineSpec(
        model="smollm2-135m",
        directory=builtin_model.directory,
        context_length=1024,
        eos_token_ids=builtin_model.eos_token_ids,
        dtype="fp32",
        device="cpu",
        num_threads=2,
        cache_directory=str(tmp_path_factory.mktemp("compiled")),
        max_kv_bytes=256 * 2**20,
        max_batch_size=8,
        max_batch_tokens=256,
    )


@pytest.fixture(scope="module")
def engine(spec: EngineSpec) -> Iterator[VllmEngine]:
    engine = VllmEngine()
    engine.start(spec)
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def tiny_spec(tmp_path_factory: pytest.TempPathFactory) -> EngineSpec:
    directory = make_wide_llama(tmp_path_factory.mktemp("wide-llama"))
    return EngineSpec(
        model="tiny",
        directory=str(directory),
        context_length=512,
        eos_token_ids=(EOS_TOKEN_ID,),
        dtype="fp32",
        device="cpu",
        num_threads=2,
        cache_directory=str(directory / "compiled"),
        max_kv_bytes=2**22,
        max_batch_size=4,
    )


def long_prompt(num_tokens: int) -> list[int]:
    return [100 + 7 * place % 30_000 for place in range(num_tokens)]


@pytest.fixture(scope="module")
def expected(builtin_model: StoredModel) -> list[tuple[Sequence, list[int]]]:
    """Prompts with what transformers says to them in fp32; known before vLLM takes the cores."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = Tokenizer.from_file(str(Path(builtin_model.directory) / "tokenizer.json"))
    model: Any = AutoModelForCausalLM.from_pretrained(builtin_model.directory, dtype=torch.float32)
    expected = []
    for text in PROMPTS:
        prompt = tokenizer.encode(text, add_special_tokens=False).ids
        whole = model.generate(
            torch.tensor([prompt]),
            max_new_tokens=GREEDY.max_tokens,
            do_sample=False,
            eos_token_id=None,
        )
        expected.append((make(text, prompt, GREEDY), whole[0, len(prompt) :].tolist()))
    return expected


def test_greedy_text_is_that_of_transformers_in_fp32(
    expected: list[tuple[Sequence, list[int]]], engine: VllmEngine
) -> None:
    told = run(engine, [sequence for sequence, _ in expected])

    assert told.tokens == {sequence.sequence_id: tokens for sequence, tokens in expected}


def test_what_was_computed_before_is_reused_and_said(engine: VllmEngine) -> None:
    prompt = long_prompt(300)
    first = run(engine, [make("first", prompt, GREEDY)])

    second = run(engine, [make("second", prompt, GREEDY)])

    assert first.started == {"first": 0}
    # Whole blocks, and never the last token, whose logits are needed.
    assert second.started == {"second": 288}
    assert second.tokens["second"] == first.tokens["first"]


def test_seeded_prompts_larger_than_a_step_are_answered_and_repeat(engine: VllmEngine) -> None:
    params = msgspec.structs.replace(GREEDY, temperature=1.0, seed=11)
    sequences = [make(str(number), long_prompt(200 + number), params) for number in range(6)]

    together = run(engine, sequences)
    alone = run(engine, [make("4", long_prompt(204), params)])

    assert len(together.tokens) == 6
    assert alone.tokens["4"] == together.tokens["4"]


def test_a_guided_answer_has_its_shape_and_its_neighbour_is_free(
    engine: VllmEngine, builtin_model: StoredModel
) -> None:
    tokenizer = Tokenizer.from_file(str(Path(builtin_model.directory) / "tokenizer.json"))
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["fox", "dog"]}, "age": {"type": "integer", "maximum": 99}},
        "required": ["kind", "age"],
        "additionalProperties": False,
    }
    guide = Guide(shape=JsonSchemaShape(json.dumps(schema)))
    stop = {"ignore_eos": False, "stop_token_ids": builtin_model.eos_token_ids, "max_tokens": 60}
    prompt = tokenizer.encode("An animal as JSON: ", add_special_tokens=False).ids
    free = run(engine, [make("free", prompt, GREEDY)]).tokens["free"]

    told = run(
        engine,
        [
            make("guided", prompt, msgspec.structs.replace(GREEDY, guide=guide, **stop)),
            make("free", prompt, GREEDY),
        ],
    )

    answer = json.loads(tokenizer.decode(told.tokens["guided"]))
    assert answer["kind"] in {"fox", "dog"}
    assert set(answer) == {"kind", "age"}
    assert told.reasons["guided"] is FinishReason.STOP
    assert told.tokens["free"] == free


def test_a_guide_that_the_grammar_library_refuses_fails_its_request_alone(
    engine: VllmEngine,
) -> None:
    guide = Guide(shape=JsonSchemaShape('{"type": "no such type"}'))

    told = run(
        engine,
        [
            make("odd", [5, 6, 7], msgspec.structs.replace(GREEDY, guide=guide)),
            make("good", [5, 6, 7], GREEDY),
        ],
    )

    assert list(told.failures) == ["odd"]
    assert len(told.tokens["good"]) == GREEDY.max_tokens


def test_the_memory_for_keys_and_values_is_what_it_was_given(
    engine: VllmEngine, spec: EngineSpec
) -> None:
    facts = engine.start(spec)

    assert facts.num_kv_blocks == spec.max_kv_bytes // facts.kv_block_bytes
    assert facts.context_length == 1024
    assert not facts.resumes_exactly


def test_a_shorter_context_in_the_settings_is_kept(tiny_spec: EngineSpec) -> None:
    engine = VllmEngine()
    settings = {"max_model_len": 64, "swap_space": 4}
    facts = engine.start(msgspec.structs.replace(tiny_spec, settings=settings))
    told = run(engine, [make("a", range(5, 60), GREEDY)])
    engine.stop()

    assert facts.context_length == 64
    assert len(told.tokens["a"]) == 64 - 55


def test_a_number_format_that_it_does_not_have_is_refused(tiny_spec: EngineSpec) -> None:
    with pytest.raises(EngineStartError, match="auto, fp32, bf16, fp16, not in int4"):
        VllmEngine().start(msgspec.structs.replace(tiny_spec, dtype="int4"))


def test_a_gpu_that_this_build_has_no_use_for_is_refused(tiny_spec: EngineSpec) -> None:
    with pytest.raises(EngineStartError, match=r"system\.device is cuda"):
        VllmEngine().start(msgspec.structs.replace(tiny_spec, device="cuda"))


def test_a_model_without_weights_is_refused_in_the_words_of_the_process_that_failed(
    tiny_spec: EngineSpec, tmp_path: Path
) -> None:
    directory = shutil.copytree(tiny_spec.directory, tmp_path / "model")
    (directory / "model.safetensors").unlink()
    before = set(psutil.Process().children(recursive=True))

    with pytest.raises(EngineStartError, match="model weights"):
        VllmEngine().start(msgspec.structs.replace(tiny_spec, directory=str(directory)))

    assert_all_gone([one for one in new_children(before) if "VLLM" in one.name()])


def new_children(before: set[psutil.Process]) -> list[psutil.Process]:
    return [one for one in psutil.Process().children(recursive=True) if one not in before]


def assert_all_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=SOON_S)
    assert not alive


def find_core(processes: list[psutil.Process]) -> psutil.Process:
    [core] = [one for one in processes if "EngineCore" in one.name()]
    return core


def test_a_killed_engine_core_is_told_and_leaves_nothing_and_a_new_start_works(
    tiny_spec: EngineSpec,
) -> None:
    engine, before = VllmEngine(), set(psutil.Process().children(recursive=True))
    engine.start(tiny_spec)
    processes = [one for one in new_children(before) if "VLLM" in one.name()]
    endless = msgspec.structs.replace(GREEDY, max_tokens=400)
    run(engine, [make("a", [5, 6, 7], endless)], until=lambda told: bool(told.tokens))

    find_core(processes).kill()

    with pytest.raises(EngineCrashedError, match="has ended"):  # noqa: PT012 - reports may come first
        while True:
            select.select([engine.wake_fd], [], [], SOON_S)
            engine.advance()
    # It goes on saying so.
    assert select.select([engine.wake_fd], [], [], SOON_S)[0]
    assert_all_gone(processes)
    engine.stop()
    engine.start(tiny_spec)
    told = run(engine, [make("b", [5, 6, 7], GREEDY)])
    engine.stop()
    assert len(told.tokens["b"]) == GREEDY.max_tokens


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the worker and its children put temporary files."""
    # Its name is short: those of sockets have a limit.
    scratch = tmp_path_factory.mktemp("t")
    monkeypatch.setenv("TMPDIR", str(scratch))
    return scratch


@pytest.fixture
async def worker(
    tiny_spec: EngineSpec,
    scratch: Path,  # noqa: ARG001 - before the worker starts
) -> AsyncIterator[Worker]:
    """A real worker process with vLLM in this interpreter's environment."""
    context = zmq.asyncio.Context()
    spec = WorkerSpec(
        address="",
        engine="vllm",
        python=sys.executable,
        engine_spec=tiny_spec,
        batcher=BatcherSpec(max_batch_size=4, max_batch_tokens=256),
        cache=CacheSpec(),
    )
    worker = await Worker.launch(spec, context=context, observer=Recorder())
    await worker.wait_until_ready()
    yield worker
    await worker.stop()
    context.term()


def order(name: str, max_tokens: int) -> SequenceOrder:
    params = SamplingParams(max_tokens=max_tokens, temperature=0.0, ignore_eos=True)
    return SequenceOrder(sequence_id=name, token_ids=(5, 6, 7), params=params)


async def read(stream: TokenStream) -> tuple[int, list[FinishReason]]:
    num_tokens, reasons = 0, []
    while not stream.is_done:
        update = await stream.next()
        if isinstance(update, TokenChunk):
            num_tokens += len(update.token_ids)
            reasons += [update.finish_reason] if update.finish_reason else []
    return num_tokens, reasons


def vllm_processes(worker: Worker) -> list[psutil.Process]:
    children = psutil.Process(worker.pid).children(recursive=True)
    assert any("EngineCore" in one.name() for one in children)
    return [psutil.Process(worker.pid), *children]


def shared_memory_of(processes: list[psutil.Process]) -> set[Path]:
    return {
        Path(mapped.path)
        for process in processes
        for mapped in process.memory_maps()
        if mapped.path.startswith("/dev/shm/")  # noqa: S108 - where the kernel shows it
    }


async def test_a_worker_streams_cancels_and_leaves_nothing_when_it_is_stopped(
    worker: Worker, scratch: Path
) -> None:
    watching = asyncio.create_task(worker.watch())
    processes = await asyncio.to_thread(vllm_processes, worker)
    endless = [worker.submit([order(f"endless-{number}", 500)]) for number in range(4)]
    for stream in endless:
        assert isinstance(await stream.next(), SequenceStarted)
    for stream in endless:
        stream.close()

    # A batch of four is full: this one runs only when the others have gone.
    answer = await read(worker.submit([order("after", 9)]))
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await worker.stop(grace_s=60)

    assert answer == (9, [FinishReason.LENGTH])
    assert await worker._process.wait() == 0
    await asyncio.to_thread(assert_all_gone, processes)
    assert not await asyncio.to_thread(os.listdir, scratch)


async def test_a_killed_worker_takes_the_processes_of_vllm_and_their_files_with_it(
    worker: Worker, scratch: Path
) -> None:
    watching = asyncio.create_task(worker.watch())
    processes = await asyncio.to_thread(vllm_processes, worker)
    shared = await asyncio.to_thread(shared_memory_of, processes)
    stream = worker.submit([order("a", 500)])
    await stream.next()

    os.kill(worker.pid, signal.SIGKILL)

    with pytest.raises(EngineCrashedError, match="killed by SIGKILL"):
        await read(stream)
    await watching
    await asyncio.to_thread(assert_all_gone, processes)
    assert shared
    assert not [path for path in shared if await asyncio.to_thread(path.exists)]
    assert not await asyncio.to_thread(os.listdir, scratch)


async def test_a_worker_whose_engine_core_is_killed_ends_so_that_it_is_replaced(
    worker: Worker,
) -> None:
    watching = asyncio.create_task(worker.watch())
    processes = await asyncio.to_thread(vllm_processes, worker)
    core = find_core(processes)
    core.suspend()  # or this model's 500 tokens may be complete before it is killed
    stream = worker.submit([order("a", 500)])
    core.kill()

    with pytest.raises(EngineCrashedError, match="ended"):
        await read(stream)
    assert "vLLM's engine process has ended" in await watching
    await asyncio.to_thread(assert_all_gone, processes)

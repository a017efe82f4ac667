"""The worker process line, with real processes and the echo engine."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest
import zmq.asyncio

from mm_orch.batching.batcher import BatcherSpec
from mm_orch.core.errors import EngineCrashedError, EngineStartError
from mm_orch.core.generation import FinishReason, SamplingParams, SequenceStarted, TokenChunk
from mm_orch.optimization.engines.contract import EngineSpec
from mm_orch.workers.launching import describe_exit
from mm_orch.workers.messages import CacheSpec, SequenceOrder, WorkerSpec
from mm_orch.workers.worker import Worker
from tests.launched_worker import launched
from tests.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from mm_orch.workers.stream import TokenStream

EOS = 0


@pytest.fixture
def context() -> Iterator[zmq.asyncio.Context]:
    context = zmq.asyncio.Context()
    yield context
    context.term()


def spec_of(engine: str = "echo", max_batch_size: int = 4) -> WorkerSpec:
    return WorkerSpec(
        address="",
        engine=engine,
        engine_spec=EngineSpec(
            model="m",
            directory="",
            cache_directory="",
            context_length=2_000_000,
            eos_token_ids=(EOS,),
        ),
        batcher=BatcherSpec(max_batch_size=max_batch_size, max_batch_tokens=64),
        cache=CacheSpec(),
    )


def order(
    name: str, prompt: tuple[int, ...], max_tokens: int = 50, **params: bool
) -> SequenceOrder:
    values = SamplingParams(max_tokens=max_tokens, stop_token_ids=(EOS,), **params)
    return SequenceOrder(sequence_id=name, token_ids=prompt, params=values)


@pytest.fixture
async def worker(context: zmq.asyncio.Context) -> AsyncIterator[Worker]:
    async with launched(spec_of(), context=context, observer=Recorder()) as worker:
        yield worker


async def read(stream: TokenStream) -> tuple[list[int], list[FinishReason]]:
    tokens: list[int] = []
    reasons: list[FinishReason] = []
    while not stream.is_done:
        update = await stream.next()
        if isinstance(update, TokenChunk):
            tokens.extend(update.token_ids)
            reasons.extend([update.finish_reason] if update.finish_reason else [])
    return tokens, reasons


async def test_a_sequence_goes_there_and_its_tokens_come_back(worker: Worker) -> None:
    stream = worker.submit([order("a", (5, 6, 7))])

    first = await stream.next()

    assert isinstance(first, SequenceStarted)
    assert first.waited_s >= 0
    assert await read(stream) == ([5, 6, 7], [FinishReason.STOP])


async def test_several_requests_run_at_the_same_time(worker: Worker) -> None:
    endless = worker.submit([order("endless", (1,), 10**6, ignore_eos=True)])
    await endless.next()

    tokens, _ = await read(worker.submit([order("short", (8, 9))]))

    assert tokens == [8, 9]
    assert not endless.is_done
    endless.close()


async def test_a_closed_stream_frees_its_place_in_the_worker(worker: Worker) -> None:
    streams = [worker.submit([order(str(i), (1,), 10**6, ignore_eos=True)]) for i in range(4)]
    for stream in streams:
        await stream.next()
    for stream in streams:
        stream.close()

    # A batch of four is full: this one runs only when the others have gone.
    tokens, _ = await read(worker.submit([order("after", (3, 4))]))

    assert tokens == [3, 4]
    assert worker.num_running == 0


async def test_a_killed_worker_fails_its_streams_with_how_it_ended(worker: Worker) -> None:
    stream = worker.submit([order("a", (1,), 10**6, ignore_eos=True)])
    await stream.next()

    os.kill(worker.pid, signal.SIGKILL)

    with pytest.raises(EngineCrashedError, match="killed by SIGKILL"):
        await read(stream)
    with pytest.raises(EngineCrashedError):
        worker.submit([order("b", (1,))])


async def test_a_busy_worker_leaves_when_asked(context: zmq.asyncio.Context) -> None:
    worker = await Worker.launch(spec_of(), context=context, observer=Recorder())
    await worker.wait_until_ready()
    worker.submit([order(str(i), (1,), 10**6, ignore_eos=True) for i in range(4)])

    await worker.stop(grace_s=60)

    assert await worker._process.wait() == 0


async def test_no_socket_stays_once_the_worker_is_attached(worker: Worker) -> None:
    folder = Path(worker.spec.address.removeprefix("ipc://")).parent

    assert not await asyncio.to_thread(folder.exists)


async def test_an_engine_that_cannot_start_tells_why(context: zmq.asyncio.Context) -> None:
    worker = await Worker.launch(spec_of("warp"), context=context, observer=Recorder())

    with pytest.raises(EngineStartError, match="No engine is named 'warp'"):
        await worker.wait_until_ready()
    await worker.stop()

    assert not psutil.pid_exists(worker.pid)


async def test_an_interpreter_that_is_not_there_is_named_with_its_option(
    context: zmq.asyncio.Context,
) -> None:
    spec = msgspec.structs.replace(spec_of("vllm"), python="/nowhere/bin/python")

    says = r"/nowhere/bin/python, in which vllm is to run, .*: No such file.*optimization\.vllm\.p"
    with pytest.raises(EngineStartError, match=says):
        await Worker.launch(spec, context=context, observer=Recorder())


async def test_a_stopped_worker_ends_its_streams(context: zmq.asyncio.Context) -> None:
    worker = await Worker.launch(spec_of(), context=context, observer=Recorder())
    await worker.wait_until_ready()
    stream = worker.submit([order("a", tuple(range(1, 9)), 100_000, ignore_eos=True)])

    await worker.stop()

    with pytest.raises(EngineCrashedError, match="was stopped"):
        await read(stream)


async def test_who_follows_a_worker_that_is_stopped_is_told_how_it_ended(
    context: zmq.asyncio.Context,
) -> None:
    worker = await Worker.launch(spec_of(), context=context, observer=Recorder())
    await worker.wait_until_ready()
    watching = asyncio.create_task(worker.watch())

    await worker.stop(grace_s=60)

    assert (await watching).startswith("exit code 0")


async def test_a_worker_can_be_stopped_again_when_that_was_cut_short(
    context: zmq.asyncio.Context,
) -> None:
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    worker = await Worker.launch(spec_of(), context=context, observer=Recorder())
    await worker.wait_until_ready()
    stopping = asyncio.create_task(worker.stop())
    # One turn of the loop, and it waits for the process to end.
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)

    await worker.stop()

    assert await worker._process.wait() == -signal.SIGKILL
    # What nobody awaited is told when it is collected.
    gc.collect()
    assert faults == []


@pytest.mark.usefixtures("odd_engines")
async def test_a_worker_may_write_lines_of_any_length(context: zmq.asyncio.Context) -> None:
    worker = await Worker.launch(spec_of("loud"), context=context, observer=Recorder())
    await worker.wait_until_ready()
    watching = asyncio.create_task(worker.watch())

    tokens, _ = await read(worker.submit([order("a", (4, 2, 4, 2))]))
    os.kill(worker.pid, signal.SIGKILL)
    how = await watching
    await worker.stop()

    assert tokens == [4, 2, 4, 2]
    assert how.startswith("killed by SIGKILL")
    assert len(how) < 200_000


@pytest.mark.skipif(sys.platform != "linux", reason="signal numbers differ elsewhere")
@pytest.mark.parametrize(
    ("code", "says"), [(3, "exit code 3"), (-9, "killed by SIGKILL"), (-40, "killed by signal 40")]
)
def test_an_end_is_described_whatever_it_was(code: int, says: str) -> None:
    assert describe_exit(code) == says


_ORPHAN = """
import asyncio, sys
import zmq.asyncio
sys.path.insert(0, {root!r})
from tests.integration.test_worker import Recorder, spec_of, order
from mm_orch.workers.worker import Worker

async def main():
    worker = await Worker.launch(spec_of(), context=zmq.asyncio.Context(), observer=Recorder())
    {wait}
    print(worker.pid, worker.spec.address, flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


@pytest.mark.parametrize("wait", ["await worker.wait_until_ready()", "pass"])
def test_a_killed_server_leaves_neither_worker_nor_socket(wait: str) -> None:
    root = str(Path(__file__).parents[2])
    parent = subprocess.Popen(
        [sys.executable, "-c", _ORPHAN.format(root=root, wait=wait)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pid, address = parent.stdout.readline().split()
    orphan = psutil.Process(int(pid))

    parent.kill()
    parent.wait()
    parent.stdout.close()

    gone, _ = psutil.wait_procs([orphan], timeout=5)
    assert gone
    assert not Path(address.removeprefix("ipc://")).parent.exists()

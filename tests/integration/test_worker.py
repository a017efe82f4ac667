"""The worker process line, with real processes and the echo engine."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import zmq.asyncio

from mm_orch.batching.batcher import BatcherSpec
from mm_orch.core.errors import EngineCrashedError, EngineStartError, ModelUnavailableError
from mm_orch.core.events import StepCompleted, WorkerRestarted, WorkerStateChanged
from mm_orch.core.generation import FinishReason, SamplingParams, SequenceStarted, TokenChunk
from mm_orch.optimization.engines.contract import EngineSpec
from mm_orch.workers.messages import CacheSpec, SequenceOrder, WorkerSpec
from mm_orch.workers.phase import ModelPhase
from mm_orch.workers.supervisor import WorkerSupervisor
from mm_orch.workers.worker import Worker, describe_exit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from mm_orch.core.events import Event
    from mm_orch.workers.stream import TokenStream

EOS = 0


class Recorder:
    """Keeps every event, and wakes who waits for one."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._has_news = asyncio.Event()

    def observe(self, event: Event) -> None:
        self.events.append(event)
        self._has_news.set()

    async def wait_for(self, kind: type, count: int = 1) -> None:
        async with asyncio.timeout(30):
            while sum(isinstance(event, kind) for event in self.events) < count:
                self._has_news.clear()
                await self._has_news.wait()


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
    worker = await Worker.launch(spec_of(), context=context, observer=Recorder())
    await worker.wait_until_ready()
    watching = asyncio.create_task(worker.watch())
    yield worker
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await worker.stop()


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
    folder = Path(worker._address.removeprefix("ipc://")).parent

    assert not await asyncio.to_thread(folder.exists)


async def test_an_engine_that_cannot_start_tells_why(context: zmq.asyncio.Context) -> None:
    worker = await Worker.launch(spec_of("warp"), context=context, observer=Recorder())

    with pytest.raises(EngineStartError, match="No engine is named 'warp'"):
        await worker.wait_until_ready()
    await worker.stop()

    assert not psutil.pid_exists(worker.pid)


async def test_a_supervised_worker_is_restarted_and_answers_again(
    context: zmq.asyncio.Context,
) -> None:
    recorder = Recorder()

    async def prepare() -> WorkerSpec:
        return spec_of()

    supervisor = WorkerSupervisor(
        "m", prepare, context=context, observer=recorder, clock=asyncio.get_running_loop().time
    )
    running = asyncio.create_task(supervisor.run())
    first = await supervisor.acquire()
    os.kill(first.pid, signal.SIGKILL)
    await recorder.wait_for(WorkerRestarted)
    second = await supervisor.acquire()

    assert second.pid != first.pid
    assert await read(second.submit([order("a", (4, 2))])) == ([4, 2], [FinishReason.STOP])
    states = [e.is_up for e in recorder.events if isinstance(e, WorkerStateChanged)]
    assert states == [True, False, True]
    assert any(isinstance(event, StepCompleted) for event in recorder.events)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not psutil.pid_exists(second.pid)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (EngineStartError("No engine can run here."), "No engine can run here"),
        (RuntimeError("never thought of"), "RuntimeError: never thought of"),
    ],
)
async def test_a_model_that_cannot_start_refuses_with_the_reason(
    error: Exception, says: str, context: zmq.asyncio.Context
) -> None:
    async def prepare() -> WorkerSpec:
        raise error

    supervisor = WorkerSupervisor(
        "m",
        prepare,
        context=context,
        observer=Recorder(),
        clock=asyncio.get_running_loop().time,
    )
    running = asyncio.create_task(supervisor.run())

    with pytest.raises(ModelUnavailableError, match=says) as refusal:
        await supervisor.acquire()

    assert refusal.value.retry_after_s >= 1
    assert supervisor.phase is ModelPhase.FAILED
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_who_waits_for_a_worker_is_told_when_its_supervisor_ends(
    context: zmq.asyncio.Context,
) -> None:
    async def prepare() -> WorkerSpec:
        return await asyncio.Future()

    supervisor = WorkerSupervisor(
        "m", prepare, context=context, observer=Recorder(), clock=asyncio.get_running_loop().time
    )
    running = asyncio.create_task(supervisor.run())
    waiting = asyncio.create_task(supervisor.acquire())
    # One turn of the loop each, and both wait.
    await asyncio.sleep(0)
    running.cancel()

    with pytest.raises(ModelUnavailableError, match="it is being stopped"):
        await waiting
    await asyncio.gather(running, return_exceptions=True)


async def test_a_stopped_worker_ends_its_streams(context: zmq.asyncio.Context) -> None:
    worker = await Worker.launch(spec_of(), context=context, observer=Recorder())
    await worker.wait_until_ready()
    stream = worker.submit([order("a", tuple(range(1, 9)), 100_000, ignore_eos=True)])

    await worker.stop()

    with pytest.raises(EngineCrashedError, match="was stopped"):
        await read(stream)


_PLUG_IN = """
import sys
from mm_orch.optimization.engines.echo import EchoBackend
from mm_orch.workers import messages

class LoudBackend(EchoBackend):
    name = "loud"
    def step(self, batch):
        sys.stderr.write("x" * 300_000)
        sys.stderr.flush()
        return super().step(batch)

class GarbledBackend(EchoBackend):
    name = "garbled"
    def step(self, batch):
        messages.encode = lambda message: b"no message"
        return super().step(batch)
"""


@pytest.fixture
def plug_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a distribution with two engines for the workers to find."""
    (tmp_path / "odd_engines.py").write_text(_PLUG_IN)
    metadata = tmp_path / "odd_engines-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-engines\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "[mm_orch.engines]\nloud = odd_engines:LoudBackend\ngarbled = odd_engines:GarbledBackend\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("plug_ins")
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


@pytest.mark.usefixtures("plug_ins")
async def test_a_worker_that_speaks_nonsense_is_replaced(context: zmq.asyncio.Context) -> None:
    recorder = Recorder()

    async def prepare() -> WorkerSpec:
        return spec_of("garbled")

    supervisor = WorkerSupervisor(
        "m", prepare, context=context, observer=recorder, clock=asyncio.get_running_loop().time
    )
    running = asyncio.create_task(supervisor.run())
    worker = await supervisor.acquire()

    with pytest.raises(EngineCrashedError, match="was stopped"):
        await read(worker.submit([order("a", (4, 2))]))
    await recorder.wait_for(WorkerRestarted)
    replacement = await supervisor.acquire()

    assert replacement.pid != worker.pid
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


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
    print(worker.pid, worker._address, flush=True)
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

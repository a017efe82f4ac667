"""Workers elsewhere whose place is lost or lacking: real ones, and a stand-in for what asks Ray."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest
import zmq.asyncio

from mm_orch.core.errors import EngineCrashedError, EngineStartError, ModelUnavailableError
from mm_orch.core.events import CircuitChanged, EngineFellBack, ErrorOccurred, WorkerStateChanged
from mm_orch.core.place_errors import NodeLostError, NoPlaceError
from mm_orch.workers.placement import EXIT_LOST, EXIT_NOT_PLACED, Placement
from mm_orch.workers.worker import Worker
from tests.integration import test_supervisor
from tests.integration.test_supervisor import supervise
from tests.integration.test_worker import order, read, spec_of
from tests.processes import ROOT
from tests.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mm_orch.models.stored import StoredModel
    from mm_orch.workers.messages import WorkerSpec

# Does as the file beside it says: starts the worker, and ends in its way when that has ended.
RELAY = f"""#!{sys.executable}
import os, pathlib, signal, subprocess, sys
sys.path.insert(0, {str(ROOT)!r})
from mm_orch.workers.launching import make_command
orders = pathlib.Path(__file__).with_suffix(".orders")
if orders.read_text() == "find no room":
    sys.stderr.write("no node had room\\n")
    sys.exit({EXIT_NOT_PLACED})
line = sys.stdin.buffer.readline()
worker = subprocess.Popen(make_command("", "process"), stdin=subprocess.PIPE)
worker.stdin.write(line)
worker.stdin.flush()
code = worker.wait()
if orders.read_text() == "say nothing":
    sys.stdin.buffer.read()
if orders.read_text() == "say that the node is lost":
    sys.exit({EXIT_LOST})
os.kill(os.getpid(), -code)
"""
ENDLESS = 10**6


class Relay:
    """What stands here for workers elsewhere."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "relay.py"
        self._path.write_text(RELAY)
        self._path.chmod(0o755)
        self.order("say how it ended")

    @property
    def python(self) -> str:
        return str(self._path)

    def order(self, what: str) -> None:
        self._path.with_suffix(".orders").write_text(what)

    def place(self, spec: WorkerSpec) -> WorkerSpec:
        placement = Placement(
            cluster="",
            host="127.0.0.1",
            python=self.python,
            num_cpus=1,
            num_gpus=0,
            timeout_s=1,
        )
        return msgspec.structs.replace(spec, placement=placement)


@pytest.fixture
def relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Relay:
    relay = Relay(tmp_path)
    of_here = test_supervisor.spec_of

    def spec_there(engine: str, stored: StoredModel) -> WorkerSpec:
        return relay.place(of_here(engine, stored))

    monkeypatch.setattr(test_supervisor, "spec_of", spec_there)
    return relay


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a place asked for again at once."""
    monkeypatch.setattr("mm_orch.optimization.lacking_place.PAUSE_S", 0.01)
    monkeypatch.setattr("mm_orch.optimization.supervisor.PAUSE_S", 0.01)


@pytest.fixture
def context() -> Iterator[zmq.asyncio.Context]:
    context = zmq.asyncio.Context()
    yield context
    context.term()


def kill_there(worker: Worker) -> None:
    """Kill the process that the relay stands for."""
    [process] = psutil.Process(worker.pid).children()
    os.kill(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("then", "kind", "says"),
    [
        ("say how it ended", EngineCrashedError, "SIGKILL"),
        ("say that the node is lost", NodeLostError, f"exit code {EXIT_LOST}"),
        ("say nothing", NodeLostError, "the connection to its machine was lost"),
    ],
)
async def test_whose_fault_the_end_of_a_worker_elsewhere_is_is_known_by_how_it_ended(
    then: str,
    kind: type[EngineCrashedError],
    says: str,
    relay: Relay,
    context: zmq.asyncio.Context,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if then == "say nothing":
        monkeypatch.setattr("mm_orch.workers.worker._EXIT_NEWS_S", 0.01)
    worker = await Worker.launch(relay.place(spec_of()), context=context, observer=Recorder())
    await worker.wait_until_ready()
    watching = asyncio.create_task(worker.watch())
    stream = worker.submit([order("a", (1,), ENDLESS, ignore_eos=True)])
    await stream.next()
    relay.order(then)

    kill_there(worker)

    with pytest.raises(EngineCrashedError, match=says) as told:
        await read(stream)
    assert type(told.value) is kind
    assert told.value.num_lost == 1
    assert says in await watching
    await worker.stop()


async def test_want_of_room_is_no_failure_of_the_engine(
    relay: Relay, context: zmq.asyncio.Context
) -> None:
    relay.order("find no room")
    worker = await Worker.launch(relay.place(spec_of()), context=context, observer=Recorder())

    with pytest.raises(NoPlaceError, match="no node had room"):
        await worker.wait_until_ready()
    await worker.stop()


async def test_a_worker_of_this_machine_that_ends_with_the_same_code_is_its_own_fault(
    relay: Relay, context: zmq.asyncio.Context
) -> None:
    relay.order("find no room")
    spec = msgspec.structs.replace(spec_of(), python=relay.python)
    worker = await Worker.launch(spec, context=context, observer=Recorder())

    with pytest.raises(EngineStartError) as told:
        await worker.wait_until_ready()
    assert type(told.value) is EngineStartError
    await worker.stop()


async def test_an_interpreter_without_ray_is_no_fault_of_the_engine(
    context: zmq.asyncio.Context, relay: Relay, tmp_path: Path
) -> None:
    spec = relay.place(spec_of())
    placement = msgspec.structs.replace(spec.placement, python=str(tmp_path / "none"))

    with pytest.raises(NoPlaceError, match=r"cannot be started.*cluster\.python"):
        await Worker.launch(
            msgspec.structs.replace(spec, placement=placement),
            context=context,
            observer=Recorder(),
        )


@pytest.mark.usefixtures("odd_engines")
async def test_after_a_lost_node_the_same_engine_is_started_and_no_circuit_opens(
    relay: Relay,
) -> None:
    async with supervise("echo", "spare") as scene:
        lost = await scene.supervisor.acquire()
        relay.order("say that the node is lost")
        kill_there(lost)
        await scene.recorder.wait_for(WorkerStateChanged, 3)

        worker = await scene.supervisor.acquire()

        assert (worker.engine, worker is lost) == ("echo", False)
        assert [one.error_type for one in scene.recorder.of(ErrorOccurred)] == ["NodeLostError"]
        assert not scene.recorder.of(CircuitChanged)
        assert not scene.recorder.of(EngineFellBack)
        assert scene.supervisor.num_restarts == 1


@pytest.mark.usefixtures("odd_engines", "quick")
async def test_the_same_engine_asks_for_a_place_until_there_is_room(relay: Relay) -> None:
    relay.order("find no room")
    async with supervise("echo", "spare") as scene:
        waiting = asyncio.create_task(scene.supervisor.acquire())
        await scene.recorder.wait_for(ErrorOccurred, 3)
        told = scene.supervisor.detail
        assert not waiting.done()

        relay.order("say how it ended")

        assert (await waiting).engine == "echo"
        assert "no node had room" in told
        assert {one.error_type for one in scene.recorder.of(ErrorOccurred)} == {"NoPlaceError"}
        assert not scene.recorder.of(CircuitChanged)
        assert scene.supervisor.num_restarts == 0


@pytest.mark.usefixtures("odd_engines", "quick")
async def test_who_waits_for_a_place_for_too_long_is_told_why(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mm_orch.optimization.lacking_place._PATIENCE_S", 0.0)
    relay.order("find no room")
    async with supervise("echo", "spare") as scene:
        with pytest.raises(ModelUnavailableError, match="no node had room"):
            await scene.supervisor.acquire()

        relay.order("say how it ended")
        await scene.recorder.wait_for(WorkerStateChanged)
        assert (await scene.supervisor.acquire()).engine == "echo"

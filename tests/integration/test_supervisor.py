"""Which worker answers for a model when engines fail, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import psutil
import pytest
import zmq.asyncio

from mm_orch.batching.batcher import BatcherSpec
from mm_orch.core.errors import EngineCrashedError, EngineHungError, ModelUnavailableError
from mm_orch.core.events import (
    CircuitChanged,
    EngineFellBack,
    StepCompleted,
    WorkerRestarted,
    WorkerStateChanged,
)
from mm_orch.core.generation import SamplingParams, TokenChunk
from mm_orch.models.stored import StoredModel
from mm_orch.optimization.beside import StartBeside
from mm_orch.optimization.engines.contract import EngineSpec
from mm_orch.optimization.ladder import EngineLadder
from mm_orch.optimization.registry import probe_engine
from mm_orch.optimization.supervisor import ModelSupervisor
from mm_orch.workers.messages import CacheSpec, SequenceOrder, WorkerSpec
from mm_orch.workers.phase import ModelPhase
from mm_orch.workers.worker import Worker
from tests.odd_engines import TALK_GARBAGE
from tests.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.odd_engines import Switch

pytestmark = pytest.mark.usefixtures("odd_engines")

STORED = StoredModel(
    name="m",
    directory="",
    source="path:somewhere",
    revision=None,
    architecture="Echo",
    context_length=2_000_000,
    vocab_size=1000,
    eos_token_ids=(0,),
    size_bytes=0,
    file_sizes={},
)


def spec_of(engine: str, stored: StoredModel) -> WorkerSpec:
    return WorkerSpec(
        address="",
        engine=engine,
        engine_spec=EngineSpec(
            model=stored.name,
            directory="",
            cache_directory="",
            context_length=stored.context_length,
            eos_token_ids=stored.eos_token_ids,
        ),
        batcher=BatcherSpec(max_batch_size=4, max_batch_tokens=64),
        cache=CacheSpec(),
    )


class Scene:
    """A supervisor at work, and what it said."""

    def __init__(self, supervisor: ModelSupervisor, recorder: Recorder) -> None:
        self.supervisor = supervisor
        self.recorder = recorder

    async def kill(self) -> Worker:
        """Kill the worker that serves and wait until that is known."""
        worker = await self.supervisor.acquire()
        num_before = len(self._downs)
        os.kill(worker.pid, signal.SIGKILL)
        while len(self._downs) == num_before:
            await self.recorder.wait_for(WorkerStateChanged, len(self._states) + 1)
        return worker

    def fail_requests(self, engine: str) -> None:
        """Have the engine fail as many requests as it takes to lose trust."""
        for number in range(3):
            self.supervisor.count_step_fault(engine, f"step {number} failed")

    @property
    def _states(self) -> list[WorkerStateChanged]:
        return self.recorder.of(WorkerStateChanged)

    @property
    def _downs(self) -> list[WorkerStateChanged]:
        return [state for state in self._states if not state.is_up]


@asynccontextmanager
async def supervise(
    *engines: str,
    is_falling_back: bool = True,
    watchdog_timeout_s: float = 60.0,
    files_error: Exception | None = None,
) -> AsyncIterator[Scene]:
    recorder, context = Recorder(), zmq.asyncio.Context()
    # Other tests' servers may live beside.
    others = psutil.Process().children()
    clock = asyncio.get_running_loop().time

    async def ensure_files() -> StoredModel:
        if files_error is not None:
            raise files_error
        return STORED

    async def probe(_: StoredModel) -> list[object]:
        return [probe_engine(engine) for engine in engines]

    async def launch(engine: str, stored: StoredModel) -> Worker:
        return await Worker.launch(spec_of(engine, stored), context=context, observer=recorder)

    async def find_fault(_: Worker) -> str:
        return ""

    supervisor = ModelSupervisor(
        "m",
        EngineLadder(engines, clock, is_falling_back=is_falling_back),
        probe=probe,  # type: ignore[arg-type]  # told in short
        ensure_files=ensure_files,
        launch=launch,
        find_fault=find_fault,
        observer=recorder,
        clock=clock,
        watchdog_timeout_s=watchdog_timeout_s,
    )
    running = asyncio.create_task(supervisor.run())
    try:
        yield Scene(supervisor, recorder)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        context.term()
    left = [child for child in psutil.Process().children() if child not in others]
    assert all(child.status() == psutil.STATUS_ZOMBIE for child in left)


def order(name: str, *prompt: int, max_tokens: int = 10, ignore_eos: bool = False) -> SequenceOrder:
    params = SamplingParams(max_tokens=max_tokens, stop_token_ids=(0,), ignore_eos=ignore_eos)
    return SequenceOrder(sequence_id=name, token_ids=prompt, params=params)


async def answer(worker: Worker, *prompt: int) -> list[int]:
    stream = worker.submit([order("a", *prompt)])
    tokens: list[int] = []
    while not stream.is_done:
        update = await stream.next()
        if isinstance(update, TokenChunk):
            tokens.extend(update.token_ids)
    return tokens


async def test_the_only_engine_is_started_again_when_its_worker_dies() -> None:
    async with supervise("echo") as scene:
        first = await scene.kill()
        second = await scene.supervisor.acquire()

        assert second.pid != first.pid
        assert await answer(second, 4, 2) == [4, 2]
        assert scene.supervisor.fallback is None
        assert [state.is_up for state in scene.recorder.of(WorkerStateChanged)] == [
            True,
            False,
            True,
        ]
        assert scene.recorder.of(StepCompleted)


async def test_an_engine_that_cannot_start_gives_way_to_the_next(odd_engines: Switch) -> None:
    odd_engines.turn_on()
    async with supervise("refusing", "spare") as scene:
        worker = await scene.supervisor.acquire()

        assert worker.engine == "spare"
        assert scene.supervisor.fallback is not None
        assert scene.supervisor.fallback.wanted == "refusing"
        assert "It does not want to." in scene.supervisor.fallback.reason
        [fallback] = scene.recorder.of(EngineFellBack)
        assert (fallback.from_engine, fallback.to_engine) == ("refusing", "spare")
        assert scene.recorder.of(CircuitChanged)[0].state == "open"


async def test_the_preferred_engine_comes_back_and_what_runs_elsewhere_finishes(
    odd_engines: Switch,
) -> None:
    odd_engines.turn_on()
    async with supervise("refusing", "spare") as scene:
        spare = await scene.supervisor.acquire()
        stream = spare.submit([order("long", 7, max_tokens=10**6, ignore_eos=True)])
        await stream.next()
        odd_engines.turn_off()

        await scene.recorder.wait_for(WorkerStateChanged, 2)

        preferred = await scene.supervisor.acquire()
        assert preferred.engine == "refusing"
        assert scene.supervisor.fallback is None
        assert await answer(preferred, 4, 2) == [4, 2]
        # The one that it took over from still answers, and leaves when it has.
        assert isinstance(await stream.next(), TokenChunk)
        assert psutil.pid_exists(spare.pid)
        stream.close()
        await scene.recorder.wait_for(WorkerStateChanged, 3)
        assert scene.recorder.of(WorkerStateChanged)[-1].engine == "spare"
        assert not psutil.pid_exists(spare.pid)
        assert scene.recorder.of(CircuitChanged)[-1].state == "closed"


async def test_a_worker_that_dies_gives_way_and_its_engine_is_tried_again() -> None:
    async with supervise("echo", "spare") as scene:
        await scene.kill()
        spare = await scene.supervisor.acquire()
        assert spare.engine == "spare"

        await scene.recorder.wait_for(WorkerStateChanged, 4)

        assert (await scene.supervisor.acquire()).engine == "echo"
        assert scene.recorder.of(WorkerStateChanged)[-1].engine in {"echo", "spare"}


async def test_the_next_engine_does_not_wait_for_a_better_one_that_is_still_loading(
    odd_engines: Switch,
) -> None:
    async with supervise("hesitant", "spare", "echo") as scene:
        await scene.supervisor.acquire()
        odd_engines.turn_on()
        await scene.kill()
        # Its circuit is open, then half open: it is being started again.
        await scene.recorder.wait_for(CircuitChanged, 2)

        await scene.kill()

        assert (await scene.supervisor.acquire()).engine == "echo"
        odd_engines.turn_off()
        await scene.recorder.wait_for(WorkerStateChanged, 6)
        assert (await scene.supervisor.acquire()).engine == "hesitant"


async def test_what_is_not_installed_is_passed_over_in_silence() -> None:
    async with supervise("absent", "spare") as scene:
        assert (await scene.supervisor.acquire()).engine == "spare"
        assert scene.supervisor.fallback is None
        assert not scene.recorder.of(EngineFellBack)


async def test_without_fallback_the_first_engine_is_the_only_one(odd_engines: Switch) -> None:
    odd_engines.turn_on()
    async with supervise("refusing", "spare", is_falling_back=False) as scene:
        with pytest.raises(ModelUnavailableError, match="does not want to"):
            await scene.supervisor.acquire()
        odd_engines.turn_off()
        await scene.recorder.wait_for(WorkerRestarted)
        await scene.recorder.wait_for(WorkerStateChanged)

        assert (await scene.supervisor.acquire()).engine == "refusing"


async def test_a_worker_that_hangs_is_killed_and_replaced() -> None:
    async with supervise("echo", "spare", watchdog_timeout_s=0.5) as scene:
        hung = await scene.supervisor.acquire()
        os.kill(hung.pid, signal.SIGSTOP)

        with pytest.raises(EngineHungError, match=r"no step for 0\.5 s"):
            await answer(hung, 4, 2)

        assert (await scene.supervisor.acquire()).engine == "spare"
        assert not psutil.pid_exists(hung.pid)


async def test_a_worker_without_work_is_left_in_peace_however_long() -> None:
    async with supervise("echo", watchdog_timeout_s=0.05) as scene:
        worker = await scene.supervisor.acquire()
        for _ in range(20):
            assert await answer(worker, 4, 2) == [4, 2]
            assert worker.stalled_s is None

        assert (await scene.supervisor.acquire()).pid == worker.pid


async def test_a_worker_that_speaks_nonsense_is_replaced() -> None:
    async with supervise("odd", "spare") as scene:
        worker = await scene.supervisor.acquire()

        with pytest.raises(EngineCrashedError, match="was stopped"):
            await answer(worker, TALK_GARBAGE, 2, 3)

        assert (await scene.supervisor.acquire()).engine == "spare"


async def test_an_engine_that_fails_request_after_request_is_replaced_though_it_lives() -> None:
    async with supervise("echo", "spare") as scene:
        first = await scene.supervisor.acquire()
        scene.fail_requests("echo")

        await scene.recorder.wait_for(EngineFellBack)

        assert (await scene.supervisor.acquire()).engine == "spare"
        assert scene.supervisor.fallback is not None
        assert scene.supervisor.fallback.reason == "step 2 failed"
        await scene.recorder.wait_for(WorkerStateChanged, 3)
        assert not psutil.pid_exists(first.pid)


async def test_an_engine_that_failed_requests_is_kept_where_the_next_cannot_start(
    odd_engines: Switch,
) -> None:
    async with supervise("echo", "refusing") as scene:
        worker = await scene.supervisor.acquire()
        odd_engines.turn_on()
        scene.fail_requests("echo")

        # That of the first is open, then that of the second.
        await scene.recorder.wait_for(CircuitChanged, 2)

        assert (await scene.supervisor.acquire()).pid == worker.pid
        assert await answer(worker, 4, 2) == [4, 2]


async def test_a_worker_started_beside_that_nobody_took_is_stopped() -> None:
    context, pids = zmq.asyncio.Context(), []

    async def start() -> Worker:
        spec = spec_of("echo", STORED)
        worker = await Worker.launch(spec, context=context, observer=Recorder())
        await worker.wait_until_ready()
        pids.append(worker.pid)
        return worker

    async with asyncio.TaskGroup() as tasks:
        beside = StartBeside(tasks)
        beside.begin("echo", start())
        await beside.wait()

    await beside.close()

    context.term()
    assert not psutil.pid_exists(pids.pop())


async def test_the_only_engine_is_kept_when_it_fails_requests_and_trusted_when_it_answers() -> None:
    async with supervise("echo") as scene:
        worker = await scene.supervisor.acquire()
        scene.fail_requests("echo")
        assert scene.recorder.of(CircuitChanged)[-1].state == "open"

        scene.supervisor.record_success("echo")

        assert scene.recorder.of(CircuitChanged)[-1].state == "closed"
        assert (await scene.supervisor.acquire()).pid == worker.pid


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError("no such disk"), "no such disk"),
        (RuntimeError("never thought of"), "RuntimeError: never thought of"),
    ],
)
async def test_a_model_whose_files_cannot_be_had_refuses_with_the_reason(
    error: Exception, says: str
) -> None:
    async with supervise("echo", "spare", files_error=error) as scene:
        with pytest.raises(ModelUnavailableError, match=says) as refusal:
            await scene.supervisor.acquire()

        assert refusal.value.retry_after_s >= 1
        assert scene.supervisor.phase is ModelPhase.FAILED
        # It is no engine's fault.
        assert not scene.recorder.of(CircuitChanged)


async def test_a_model_that_no_engine_can_run_refuses_with_every_reason() -> None:
    async with supervise("absent") as scene:
        with pytest.raises(ModelUnavailableError, match=r"absent: not installed \(install it\)"):
            await scene.supervisor.acquire()


async def test_who_waits_for_a_worker_is_told_when_its_supervisor_ends() -> None:
    async with supervise("echo") as scene:
        waiting = asyncio.create_task(scene.supervisor.acquire())
        # One turn of the loop, and it waits.
        await asyncio.sleep(0)

    with pytest.raises(ModelUnavailableError, match="it is being stopped"):
        await waiting

"""The replicas of one model when engines fail while replicas come and go, with real workers."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import zmq.asyncio

from mm_orch.core.generation import TokenChunk
from mm_orch.optimization.ladder import EngineLadder
from mm_orch.optimization.registry import probe_engine
from mm_orch.optimization.replica_set import ReplicaSet, Wish
from mm_orch.optimization.replicas.layout import Share
from mm_orch.optimization.supervisor import ModelSupervisor
from mm_orch.workers.phase import ModelPhase
from mm_orch.workers.worker import Worker
from tests.integration.test_supervisor import STORED, answer, order, spec_of
from tests.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mm_orch.models.stored import StoredModel
    from mm_orch.optimization.news import News
    from mm_orch.optimization.replica_set import Replica
    from mm_orch.workers.stream import TokenStream
    from tests.odd_engines import Switch

pytestmark = pytest.mark.usefixtures("odd_engines")

READY, RESTARTING, FAILED = ModelPhase.READY, ModelPhase.RESTARTING, ModelPhase.FAILED
# A worker that is stopped has ended long before so many have come.
MANY_TOKENS = 2000


class Scene:
    """Replicas that all have the same share."""

    def __init__(self, replicas: ReplicaSet) -> None:
        self.replicas = replicas

    @property
    def numbers(self) -> list[int]:
        return [one.number for one in self.replicas.replicas]

    @property
    def phases(self) -> list[ModelPhase]:
        return [one.supervisor.phase for one in self.replicas.replicas]

    def find(self, number: int) -> Replica:
        found = self.replicas.find(number)
        assert found is not None
        return found

    def want(self, count: int) -> None:
        self.replicas.want([Share()] * count)

    async def wait_until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not is_so():  # noqa: ASYNC110 - it asks
                await asyncio.sleep(0.01)

    async def place_on(self, number: int) -> Worker:
        """Have a request given to one of two replicas."""
        [other] = set(self.numbers) - {number}
        placed = await self.replicas.place(Wish(lost=self.find(other).worker))
        assert placed.worker is self.find(number).worker
        return placed.worker

    async def drain(self, number: int) -> None:
        """Have one of two replicas drained: the last, or one that does not serve."""
        self.want(1)
        await self.wait_until(lambda: self.find(number).is_draining)

    def kill(self, number: int) -> None:
        worker = self.find(number).worker
        assert worker is not None
        os.kill(worker.pid, signal.SIGKILL)


@asynccontextmanager
async def replicate(count: int, *engines: str) -> AsyncIterator[Scene]:
    recorder, context = Recorder(), zmq.asyncio.Context()
    clock = asyncio.get_running_loop().time

    async def ensure_files() -> StoredModel:
        return STORED

    async def probe(_: StoredModel) -> list[object]:
        return [probe_engine(engine) for engine in engines]

    async def launch(engine: str, stored: StoredModel) -> Worker:
        return await Worker.launch(spec_of(engine, stored), context=context, observer=recorder)

    async def find_nothing(*_: object) -> str:
        return ""

    def make_supervisor(replica: Replica, news: News) -> ModelSupervisor:
        return ModelSupervisor(
            "m",
            EngineLadder(engines, clock),
            probe=probe,  # type: ignore[arg-type]  # told in short
            ensure_files=ensure_files,
            launch=launch,
            find_fault=find_nothing,
            observer=recorder,
            clock=clock,
            watchdog_timeout_s=60.0,
            replica=replica.number,
            news=news,
        )

    replicas = ReplicaSet("m", make_supervisor, find_obstacle=find_nothing, observer=recorder)
    scene = Scene(replicas)
    scene.want(count)
    running = asyncio.create_task(replicas.run())
    try:
        await scene.wait_until(lambda: scene.phases == [READY] * count)
        yield scene
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        context.term()


def begin(worker: Worker, name: str = "long") -> TokenStream:
    """Have a worker generate for as long as it is let."""
    return worker.submit([order(name, 7, max_tokens=10**6, ignore_eos=True)])


async def read_on(stream: TokenStream, worker: Worker) -> None:
    """Read what has come of a worker's only stream, and many more; fails where it breaks off."""
    num_tokens = worker.queued.num_computed + MANY_TOKENS
    while num_tokens > 0:
        update = await stream.next()
        if isinstance(update, TokenChunk):
            num_tokens -= len(update.token_ids)


async def test_a_drained_replica_lets_a_worker_end_that_another_has_taken_over_from(
    odd_engines: Switch,
) -> None:
    odd_engines.turn_on()
    async with replicate(2, "refusing", "spare") as scene:
        old = await scene.place_on(1)
        stream = begin(old)
        odd_engines.turn_off()
        await scene.wait_until(
            lambda: [one.supervisor.engine for one in scene.replicas.replicas] == ["refusing"] * 2
        )

        await scene.drain(1)
        await read_on(stream, old)

        assert scene.numbers == [0, 1]
        stream.close()
        await scene.wait_until(lambda: scene.numbers == [0])


async def test_a_drained_replica_lets_a_worker_end_whose_successor_is_still_loading(
    odd_engines: Switch,
) -> None:
    async with replicate(2, "echo", "hesitant") as scene:
        old, supervisor = await scene.place_on(1), scene.find(1).supervisor
        stream = begin(old)
        odd_engines.turn_on()
        for number in range(3):
            supervisor.count_step_fault("echo", f"step {number} failed")
        await scene.wait_until(lambda: supervisor.worker is None)

        await scene.drain(1)
        await read_on(stream, old)

        assert scene.numbers == [0, 1]
        stream.close()
        await scene.wait_until(lambda: scene.numbers == [0])


async def test_a_drained_replica_answers_for_as_long_as_no_other_can(odd_engines: Switch) -> None:
    async with replicate(2, "refusing") as scene:
        last = await scene.place_on(1)
        stream = begin(last)
        await scene.drain(1)
        odd_engines.turn_on()
        scene.kill(0)
        await scene.wait_until(lambda: scene.phases == [FAILED, READY])

        async with asyncio.timeout(10):
            placed = await scene.replicas.place(Wish())
        assert placed.worker is last
        stream.close()
        # Nor does it leave, though it has nothing to do.
        for _ in range(20):
            assert await answer(last, 4, 2) == [4, 2]
        assert scene.numbers == [0, 1]

        odd_engines.turn_off()
        await scene.wait_until(lambda: scene.numbers == [0])
        assert (await scene.replicas.place(Wish())).worker is scene.find(0).worker


async def test_what_a_drained_replica_still_has_is_told_apart_from_those_that_take_requests() -> (
    None
):
    async with replicate(2, "echo") as scene:
        leaving, staying = scene.find(1), scene.find(0)
        worker = await scene.place_on(1)
        streams = [begin(worker, str(number)) for number in range(3)]
        assert set(scene.replicas.serving) == {0, 1}
        assert scene.replicas.num_ending == 0

        await scene.drain(1)

        assert scene.replicas.serving == {0: staying.worker}
        assert scene.replicas.num_ending == 3
        assert leaving.worker in scene.replicas.workers
        for stream in streams:
            stream.close()
        assert scene.replicas.num_ending == 0


async def test_a_replica_joins_while_another_is_started_again(odd_engines: Switch) -> None:
    async with replicate(2, "hesitant") as scene:
        odd_engines.turn_on()
        scene.kill(1)
        await scene.wait_until(lambda: scene.phases == [READY, RESTARTING])

        scene.want(3)

        await scene.wait_until(lambda: scene.numbers == [0, 1, 2])
        assert scene.phases[1] is RESTARTING
        odd_engines.turn_off()
        await scene.wait_until(lambda: scene.phases == [READY] * 3)

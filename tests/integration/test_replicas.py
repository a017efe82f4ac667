"""Several workers of one model: the whole path but HTTP, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from mm_orch.app import open_runtime
from mm_orch.autoscaling import loop
from mm_orch.config import load_config
from mm_orch.core.errors import PoisonedRequestError
from mm_orch.core.generation import GenerationOptions, GenerationRequest, TokensPrompt
from mm_orch.core.placement_events import ReplicaLeft, RequestPlaced
from mm_orch.core.scaling_events import ReplicasScaled
from mm_orch.orchestration.gate import Bound, find_bound
from mm_orch.orchestration.reports import HealthStatus
from mm_orch.workers.phase import ModelPhase
from tests.odd_engines import DIE
from tests.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mm_orch.app import Runtime
    from mm_orch.optimization.replica_set import ReplicaSet
    from mm_orch.orchestration.reports import ModelReport
    from mm_orch.orchestration.running import RunningGeneration
    from tests.odd_engines import Switch

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("builtin_model", "odd_engines")]

MODEL = "smollm2-135m"
REPLICAS = f"models.{MODEL}.replicas"
WORDS = (504, 338, 253, 216, 28, 30)
LONG = 2500


class Scene:
    """A runtime with replicas, and what it said."""

    def __init__(self, runtime: Runtime, recorder: Recorder) -> None:
        self.runtime = runtime
        self.recorder = recorder

    @property
    def replicas(self) -> ReplicaSet:
        replicas = self.runtime.manager.find_replicas(MODEL)
        assert replicas is not None
        return replicas

    @property
    def report(self) -> ModelReport:
        [report] = self.runtime.status.status().models
        return report

    @property
    def phases(self) -> list[tuple[int, ModelPhase]]:
        return [(one.number, one.phase) for one in self.report.replicas]

    @property
    def pids(self) -> list[int]:
        return [one.worker_pid for one in self.report.replicas if one.worker_pid is not None]

    @property
    def num_ready(self) -> int:
        """How many serve, where all do."""
        phases = {one.phase for one in self.report.replicas}
        return len(self.report.replicas) if phases == {ModelPhase.READY} else 0

    async def wait_until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not is_so():  # noqa: ASYNC110 - it asks
                await asyncio.sleep(0.01)

    async def wait_for_replicas(self, *numbers: int) -> None:
        wanted = [(number, ModelPhase.READY) for number in numbers]
        await self.wait_until(lambda: self.phases == wanted)

    async def resize(self, count: int | str) -> None:
        await self.runtime.live.change({REPLICAS: count}, source="admin")

    def placed(self) -> list[int]:
        return [one.replica for one in self.recorder.of(RequestPlaced)]

    def pid_of(self, number: int) -> int:
        replica = self.replicas.find(number)
        assert replica is not None
        assert replica.worker is not None
        return replica.worker.pid


@asynccontextmanager
async def run(count: int | str, *engines: str, **settings: object) -> AsyncIterator[Scene]:
    overrides = {f"models.{MODEL}.engines": list(engines), REPLICAS: count, **settings}
    config = load_config(path=None, environ={}, overrides=overrides).config
    recorder = Recorder()
    async with open_runtime(config, is_server=config.monitoring.server.enabled) as runtime:
        runtime.observer.add([recorder])
        await runtime.manager.acquire(MODEL)
        yield Scene(runtime, recorder)


def ask(
    *prompt: int, max_tokens: int = 12, session: str = "", timeout_s: float = 60
) -> GenerationRequest:
    options = GenerationOptions(max_tokens=max_tokens, ignore_eos=True, temperature=0.0)
    return GenerationRequest(
        request_id="r",
        prompt=TokensPrompt(prompt),
        options=options,
        conversation_id=session,
        timeout_s=timeout_s,
    )


async def read(generation: RunningGeneration) -> str:
    return "".join([delta.text async for delta in generation])


async def answer(scene: Scene, request: GenerationRequest) -> str:
    async with scene.runtime.orchestrator.open(request) as generation:
        return await read(generation)


async def begin(generation: RunningGeneration) -> tuple[str, AsyncIterator[object]]:
    deltas = aiter(generation)
    return (await anext(deltas)).text, deltas


async def finish(deltas: AsyncIterator[object]) -> str:
    return "".join([delta.text async for delta in deltas])  # type: ignore[attr-defined]  # TextDelta


async def test_both_replicas_answer_and_each_keeps_its_conversations() -> None:
    async with run(2, "echo") as scene:
        await scene.wait_for_replicas(0, 1)
        for turn in range(3):
            for one in range(6):
                prompt = [300 + one, *range(400 + one, 480 + one), *range(500, 500 + 20 * turn)]
                assert await answer(scene, ask(*prompt))

        firsts, *laters = (scene.placed()[1:][at : at + 6] for at in (0, 6, 12))
        assert sorted(firsts) == [0, 0, 0, 1, 1, 1]
        assert laters == [firsts, firsts]
        rules = [one.rule for one in scene.recorder.of(RequestPlaced)][1:]
        assert rules == ["load"] * 6 + ["prefix"] * 12
        assert all((one.cache_hit_ratio or 0) > 0.4 for one in scene.report.replicas)
        assert {one.engine for one in scene.report.replicas} == {"echo"}


async def test_replicas_take_turns_where_that_is_configured() -> None:
    async with run(2, "echo", **{"optimization.balancing": "round_robin"}) as scene:
        await scene.wait_for_replicas(0, 1)
        for _ in range(4):
            await answer(scene, ask(*WORDS, session="s"))

        first, second, *_ = placed = scene.placed()[1:]
        assert placed == [first, second, first, second]
        assert first != second
        assert {one.rule for one in scene.recorder.of(RequestPlaced)[1:]} == {"turn"}


async def test_a_session_keeps_its_replica_until_it_ends() -> None:
    async with run(2, "echo") as scene:
        await scene.wait_for_replicas(0, 1)
        for number in range(4):
            await answer(scene, ask(300 + number, session="s"))

        assert len(set(scene.placed()[1:])) == 1
        rules = [one.rule for one in scene.recorder.of(RequestPlaced)][1:]
        assert rules == ["load", "session", "session", "session"]
        scene.runtime.orchestrator.release_conversation("s")
        await answer(scene, ask(300, session="s"))
        assert scene.recorder.of(RequestPlaced)[-1].rule == "load"


async def test_streams_of_a_replica_that_is_killed_go_on_on_the_other_one() -> None:
    async with run(2, "echo", "spare") as scene:
        await scene.wait_for_replicas(0, 1)
        undisturbed = await answer(scene, ask(*WORDS, max_tokens=LONG))
        async with scene.runtime.orchestrator.open(ask(*WORDS, max_tokens=LONG)) as generation:
            first, deltas = await begin(generation)
            killed = scene.placed()[-1]
            other_pid = scene.pid_of(1 - killed)
            os.kill(scene.pid_of(killed), signal.SIGKILL)
            text = first + await finish(deltas)

            assert text == undisturbed
            assert scene.placed()[-1] == 1 - killed
            # Of the same engine, though another one waits in the ladder.
            assert [(one.from_engine, one.to_engine) for one in generation.failovers] == [
                ("echo", "echo")
            ]
        assert scene.pid_of(1 - killed) == other_pid
        await scene.wait_for_replicas(0, 1)


async def test_a_request_that_replicas_die_of_is_given_to_no_third() -> None:
    async with run(3, "odd") as scene:
        await scene.wait_for_replicas(0, 1, 2)
        before = set(scene.pids)
        with pytest.raises(PoisonedRequestError, match="2 workers of smollm2-135m ended"):
            await answer(scene, ask(DIE, *WORDS))

        # The last one that ended may still be told for a moment.
        await scene.wait_until(lambda: len(before & set(scene.pids)) == 1)
        assert await answer(scene, ask(*WORDS))


async def test_a_replica_that_is_down_is_told_of_and_the_model_stays_ready(
    odd_engines: Switch,
) -> None:
    async with run(2, "hesitant") as scene:
        await scene.wait_for_replicas(0, 1)
        odd_engines.turn_on()
        os.kill(scene.pid_of(1), signal.SIGKILL)
        await scene.wait_until(lambda: scene.phases[1][1] is ModelPhase.RESTARTING)

        assert scene.report.phase is ModelPhase.READY
        health = scene.runtime.status.health()
        assert health.status is HealthStatus.DEGRADED
        assert health.degradation_reasons[0].startswith(f"replica 1 of model {MODEL} is restarting")
        assert await answer(scene, ask(*WORDS))
        odd_engines.turn_off()
        await scene.wait_for_replicas(0, 1)
        assert scene.runtime.status.health().status is HealthStatus.HEALTHY


async def test_a_replica_joins_and_another_is_drained_while_requests_run() -> None:
    async with run(1, "echo") as scene:
        before = [scene.pid_of(0)]
        await scene.resize(3)
        # All that there are now share the cores; who had them alone leaves.
        await scene.wait_until(lambda: scene.num_ready == 3 and before[0] not in scene.pids)
        stay = scene.pids
        opened = [
            scene.runtime.orchestrator.open(ask(n, *WORDS, max_tokens=LONG)) for n in range(9)
        ]
        running = [await begin(await one.__aenter__()) for one in opened]
        assert set(scene.placed()[-9:]) == {one.number for one in scene.report.replicas}

        await scene.resize(1)
        await scene.wait_until(lambda: any(one.is_draining for one in scene.report.replicas))
        drained = {one.number for one in scene.report.replicas if one.is_draining}
        # What comes now goes to who stays, and what runs there is let end.
        await answer(scene, ask(*WORDS))
        assert scene.placed()[-1] not in drained
        texts = [first + await finish(deltas) for first, deltas in running]
        for one in opened:
            await one.__aexit__(None, None, None)

        assert len({len(text) > LONG for text in texts}) == 1
        await scene.wait_until(lambda: len(scene.report.replicas) == 1)
        assert len(scene.recorder.of(ReplicaLeft)) == 4
        for pid in set(stay) - set(scene.pids):
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        assert await answer(scene, ask(*WORDS))


async def test_a_replica_that_still_loads_leaves_at_once_when_it_is_not_wanted(
    odd_engines: Switch,
) -> None:
    async with run(1, "hesitant") as scene:
        odd_engines.turn_on()
        await scene.resize(2)
        await scene.wait_until(lambda: len(scene.report.replicas) == 2)
        await scene.resize(1)
        await scene.wait_for_replicas(0)
        assert await answer(scene, ask(*WORDS))


async def test_a_replica_that_has_no_room_waits_and_says_so() -> None:
    async with run(4, "echo", **{"system.model_memory_mb": 60}) as scene:
        await scene.wait_until(lambda: bool(scene.report.replicas_detail))

        assert 1 <= len(scene.report.replicas) < 4
        [reason] = scene.runtime.status.health().degradation_reasons
        assert "of 4 replicas: another replica takes" in reason
        assert await answer(scene, ask(*WORDS))


async def test_who_waits_goes_to_a_replica_that_joins_though_nobody_comes_or_leaves() -> None:
    # One step at a time of one sequence, and one to hand.
    settings = {"optimization.batcher.max_batch_size": 1}
    async with run(1, "slow", **settings) as scene, AsyncExitStack() as held:
        for number in range(2):
            request = ask(number, *WORDS, max_tokens=5000, timeout_s=600)
            await held.enter_async_context(scene.runtime.orchestrator.open(request))
        waiting = asyncio.create_task(answer(scene, ask(9, *WORDS, max_tokens=2)))
        lane = scene.runtime.orchestrator.entrance.gate._lanes[MODEL]
        await scene.wait_until(lambda: len(lane.num_sequences_by_waiting) == 1)

        await scene.resize(2)

        async with asyncio.timeout(60):
            assert await waiting


async def test_of_replicas_that_are_drained_the_gate_counts_what_they_still_have() -> None:
    settings = {"optimization.batcher.max_batch_size": 4}
    async with run(2, "slow", **settings) as scene, AsyncExitStack() as held:
        await scene.wait_for_replicas(0, 1)
        assert find_bound(scene.runtime.manager, MODEL) == Bound(2 * 6, is_yielding=True)
        for number in range(2):
            request = ask(number, *WORDS, max_tokens=5000, timeout_s=600)
            await held.enter_async_context(scene.runtime.orchestrator.open(request))

        await scene.resize(1)
        # One that has all cores joins; the next is drained when this one has left.
        await scene.wait_until(lambda: any(one.is_draining for one in scene.report.replicas))

        assert [one.is_draining for one in scene.report.replicas].count(False) == 2
        assert find_bound(scene.runtime.manager, MODEL) == Bound(2 * 6 + 1, is_yielding=True)


async def test_unloading_a_model_stops_all_its_replicas() -> None:
    async with run(2, "echo") as scene:
        await scene.wait_for_replicas(0, 1)
        pids = [scene.pid_of(0), scene.pid_of(1)]
        await scene.runtime.manager.unload(MODEL)

        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        assert [one.replica for one in scene.recorder.of(ReplicaLeft)] == [0, 1]


async def test_replicas_follow_the_load_and_no_request_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "WINDOW_S", 0.2)
    settings = {
        "monitoring.server.enabled": True,
        "optimization.autoscaler.target_wait_s": 0.05,
        "optimization.autoscaler.quiet_s": 1.0,
        "optimization.batcher.max_batch_size": 1,
    }
    async with run("1-2", "echo", **settings) as scene:
        assert scene.replicas.num_wanted == 1
        is_over, texts = asyncio.Event(), []

        async def keep_asking(number: int) -> None:
            while not is_over.is_set():
                texts.append(await answer(scene, ask(number, *WORDS, max_tokens=LONG)))

        async with asyncio.TaskGroup() as load:
            for number in range(6):
                load.create_task(keep_asking(number))
            await scene.wait_until(lambda: scene.num_ready == 2)
            told = scene.report.scaling
            assert told is not None
            assert (told.least, told.most, told.direction, told.count) == (1, 2, "up", 2)
            assert "requests wait" in told.rationale
            is_over.set()
        await scene.wait_until(lambda: len(scene.report.replicas) == 1)

        assert len({len(text) > LONG for text in texts}) == 1
        moves = [(one.direction, one.count) for one in scene.recorder.of(ReplicasScaled)]
        assert [one for one in moves if one[0] != "held"] == [("up", 2), ("down", 1)]
        assert await answer(scene, ask(*WORDS))
        # A number is a number again, and a range begins with what is there.
        await scene.resize(1)
        assert scene.report.scaling is None


async def test_auto_is_one_on_few_cores() -> None:
    async with run("auto", "echo") as scene:
        await answer(scene, ask(*WORDS))
        assert scene.replicas.num_wanted == max(1, (os.cpu_count() or 1) // 16)

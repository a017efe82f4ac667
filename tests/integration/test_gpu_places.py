"""Models over GPUs that are made up: NVML is a fake, workers and what they see are real."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import psutil
import pytest

from mm_orch.app import open_runtime
from mm_orch.config import load_config
from mm_orch.core.errors import ModelUnavailableError
from mm_orch.core.generation import GenerationOptions, GenerationRequest, TokensPrompt
from mm_orch.core.placement_events import RequestFailedOver, WorkerMoved, WorkerPlaced
from mm_orch.optimization.placing.rule import Way
from mm_orch.workers.phase import ModelPhase
from tests.fake_nvml import GIB, FakeNvml
from tests.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mm_orch.app import Runtime
    from mm_orch.models.stored import StoredModel
    from mm_orch.orchestration.reports import ModelReport
    from mm_orch.workers.worker import Worker
    from tests.odd_engines import Switch

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("odd_engines")]

# A worker is reckoned to take 1 GiB of each GPU beside its share of 270 MB of weights; 256 MiB of
# each are nobody's. So one of these GPUs is too small for the whole model, and not for half of it.
SMALL = int(1.45 * GIB)
ROOMY = 4 * GIB


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("mm_orch.optimization.placing.places.CHECK_EVERY_S", 0.01)
    monkeypatch.setattr("mm_orch.optimization.residency._MIN_STAY_S", 0.0)
    monkeypatch.setattr("mm_orch.optimization.residency._STAY_FACTOR", 0.0)


class Scene:
    """A runtime on a machine with GPUs, and what it said."""

    def __init__(self, runtime: Runtime, recorder: Recorder) -> None:
        self.runtime = runtime
        self.recorder = recorder

    def report(self, model: str = "a") -> ModelReport:
        models = self.runtime.status.status().models
        return next(one for one in models if one.name == model)

    @property
    def reasons(self) -> tuple[str, ...]:
        return self.runtime.status.health().degradation_reasons

    async def start(self, model: str = "a") -> Worker:
        return await self.runtime.manager.acquire(model)

    async def wait_until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not is_so():  # noqa: ASYNC110 - it asks
                await asyncio.sleep(0.01)

    async def wait_for_gpus(self, *gpus: int, engine: str, model: str = "a") -> Worker:
        """Wait until the one worker of a model computes on these with this engine."""

        def is_there() -> bool:
            report = self.report(model)
            placed = [(one.gpus, one.engine, one.phase) for one in report.replicas]
            return placed == [(gpus, engine, ModelPhase.READY)]

        await self.wait_until(is_there)
        return await self.start(model)


@asynccontextmanager
async def run(
    nvml: FakeNvml,
    monkeypatch: pytest.MonkeyPatch,
    stored: StoredModel,
    *engines: str,
    tensor_parallel: dict[str, int] | None = None,
    **settings: object,
) -> AsyncIterator[Scene]:
    """Run the models a and b, which are the same, on made up GPUs."""
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    overrides: dict[str, object] = {"optimization.cache.max_memory_mb": 1, **settings}
    for name in ("a", "b"):
        overrides[f"models.{name}.source"] = f"path:{stored.directory}"
        overrides.setdefault(f"models.{name}.engines", list(engines))
    config = load_config(path=None, environ={}, overrides=overrides).config
    recorder = Recorder()
    async with open_runtime(config, is_server=True) as runtime:
        runtime.observer.add([recorder])
        plan = runtime.manager.plans["a"]
        sizes = tensor_parallel or {}
        runtime.manager.plans["a"] = dataclasses.replace(
            plan,
            engines=tuple(
                dataclasses.replace(one, settings={"tensor_parallel_size": sizes[one.name]})
                if one.name in sizes
                else one
                for one in plan.engines
            ),
        )
        yield Scene(runtime, recorder)


def ask(model: str, max_tokens: int) -> GenerationRequest:
    return GenerationRequest(
        request_id="r",
        model=model,
        prompt=TokensPrompt((504, 338, 253)),
        options=GenerationOptions(max_tokens=max_tokens, ignore_eos=True, temperature=0.0),
        timeout_s=60,
    )


async def answer(scene: Scene, request: GenerationRequest) -> str:
    async with scene.runtime.orchestrator.open(request) as generation:
        return "".join([delta.text async for delta in generation])


def visible_to(worker: Worker) -> str:
    return psutil.Process(worker.pid).environ()["CUDA_VISIBLE_DEVICES"]


async def test_replicas_stand_apart_and_each_sees_its_gpu_alone(
    monkeypatch: pytest.MonkeyPatch, builtin_model: StoredModel
) -> None:
    nvml = FakeNvml(num_gpus=3, total_bytes=ROOMY)
    settings: dict[str, object] = {"models.a.replicas": 2}
    async with run(nvml, monkeypatch, builtin_model, "card", **settings) as scene:
        await scene.start()
        await scene.wait_until(lambda: len(scene.report().replicas) == 2)
        await scene.wait_until(
            lambda: all(one.phase is ModelPhase.READY for one in scene.report().replicas)
        )

        assert [one.gpus for one in scene.report().replicas] == [(0,), (1,)]
        workers = scene.runtime.manager.workers
        assert sorted(visible_to(one) for one in workers) == ["GPU-0a", "GPU-1a"]
        assert {one.facts.device for one in workers} == {"cuda: GPU-0a", "cuda: GPU-1a"}
        assert not scene.reasons


async def test_failing_gpus_lead_to_fewer_then_to_the_next_engine_then_to_the_cpu(
    monkeypatch: pytest.MonkeyPatch, builtin_model: StoredModel
) -> None:
    nvml = FakeNvml(num_gpus=4, total_bytes=SMALL)
    sizes = {"card": 4, "second_card": 2}
    async with run(
        nvml, monkeypatch, builtin_model, "card", "second_card", tensor_parallel=sizes
    ) as scene:
        await scene.start()
        worker = await scene.wait_for_gpus(0, 1, 2, 3, engine="card")
        assert visible_to(worker) == "GPU-0a,GPU-1a,GPU-2a,GPU-3a"
        assert not scene.reasons
        told = []
        nvml.lose(3)
        # Nine heads are shared evenly by three.
        told.append((await scene.wait_for_gpus(0, 1, 2, engine="card"), scene.reasons))
        nvml.gpus[2].num_ecc_errors = 1
        told.append((await scene.wait_for_gpus(0, 1, engine="second_card"), scene.reasons))
        nvml.xids.append((0, 79))
        told.append((await scene.wait_for_gpus(engine="card"), scene.reasons))

        settings = [one.spec.engine_spec.settings["tensor_parallel_size"] for one, _ in told]
        assert settings == [3, 2, 1]
        assert [one.spec.visible_gpus for one, _ in told] == [
            "GPU-0a,GPU-1a,GPU-2a",
            "GPU-0a,GPU-1a",
            "",
        ]
        assert (told[-1][0].facts.device, visible_to(told[-1][0])) == ("cpu", "")
        lack = "card on 4 GPUs would need 1.1 GiB of each; failed GPUs:"
        assert told[0][1] == (
            "GPU 3 cannot be read: error 15",
            f"model a runs with card on 3 GPUs: {lack} 3",
        )
        assert told[1][1][-1] == f"model a runs with second_card on 2 GPUs: {lack} 2, 3"
        assert told[2][1][-1] == f"model a runs with card on the CPU: {lack} 0, 2, 3"
        moves = [(one.gpu_id, one.reason) for one in scene.recorder.of(WorkerMoved)]
        assert moves == [
            ("3", "GPU 3 cannot be read: error 15"),
            ("2", "GPU 2 has had 1 memory errors that could not be corrected"),
            ("0", "GPU 0 has reported Xid 79"),
        ]
        # No engine was to blame.
        assert set(scene.report().circuits.values()) == {"closed"}
        assert scene.runtime.monitor is not None
        assert scene.runtime.monitor.render_metrics is not None
        page = scene.runtime.monitor.render_metrics("")[0].decode()
        assert 'gpu_worker_moves_total{model="a"} 3.0' in page
        assert 'model_workers_on_lesser_place{model="a"} 1.0' in page


async def test_an_answer_goes_on_when_its_gpu_is_lost_and_the_request_is_not_to_blame(
    monkeypatch: pytest.MonkeyPatch, builtin_model: StoredModel, odd_engines: Switch
) -> None:
    nvml = FakeNvml(num_gpus=3, total_bytes=ROOMY)
    async with run(nvml, monkeypatch, builtin_model, "card") as scene:
        undisturbed = await answer(scene, ask("a", 500))
        odd_engines.slow_down(0.02)
        async with scene.runtime.orchestrator.open(ask("a", 500)) as generation:
            deltas = aiter(generation)
            text = (await anext(deltas)).text
            for lost in (0, 1):
                worker = await scene.start()
                assert worker.spec.gpus == (lost,)
                nvml.lose(lost)
                while len(scene.recorder.of(RequestFailedOver)) <= lost:
                    text += (await anext(deltas)).text
            odd_engines.speed_up()
            text += "".join([delta.text async for delta in deltas])

        assert text == undisturbed
        assert [one.gpu_ids for one in scene.recorder.of(WorkerPlaced)] == [("0",), ("1",), ("2",)]


async def test_a_worker_that_dies_of_its_gpu_is_told_from_one_that_crashes(
    monkeypatch: pytest.MonkeyPatch, builtin_model: StoredModel
) -> None:
    # Nobody looks before the worker has ended.
    monkeypatch.setattr("mm_orch.optimization.placing.places.CHECK_EVERY_S", 3600.0)
    nvml = FakeNvml(num_gpus=2, total_bytes=ROOMY)
    async with run(nvml, monkeypatch, builtin_model, "card", "spare") as scene:
        worker = await scene.start()
        nvml.lose(0)
        os.kill(worker.pid, signal.SIGKILL)
        worker = await scene.wait_for_gpus(1, engine="card")
        assert scene.report().circuits == {"card": "closed", "spare": "closed"}
        assert scene.report().wanted_engine is None

        os.kill(worker.pid, signal.SIGKILL)
        await scene.wait_for_gpus(engine="spare")
        assert scene.report().wanted_engine == "card"


async def test_what_a_worker_was_measured_to_take_is_what_the_next_one_finds_taken(
    monkeypatch: pytest.MonkeyPatch, builtin_model: StoredModel
) -> None:
    nvml = FakeNvml(num_gpus=2, total_bytes=ROOMY)
    num_told = 0
    async with run(nvml, monkeypatch, builtin_model, "card") as scene:
        first = await scene.start("a")

        def tell() -> dict[int, int | None]:
            nonlocal num_told
            num_told += 1
            return {first.pid: 3 * GIB}

        nvml.gpus[0].bytes_by_pid = tell
        # Twice a reading: what was read first has been noted by then.
        await scene.wait_until(lambda: num_told > 6)

        assert first.spec.gpus == (0,)
        assert (await scene.start("b")).spec.gpus == (1,)


async def test_an_idle_model_leaves_its_gpu_for_a_busy_one(
    monkeypatch: pytest.MonkeyPatch, builtin_model: StoredModel
) -> None:
    nvml = FakeNvml(num_gpus=1, total_bytes=2 * GIB)
    async with run(nvml, monkeypatch, builtin_model, "card") as scene:
        await answer(scene, ask("a", 2))
        await answer(scene, ask("b", 2))

        assert scene.report("a").phase is ModelPhase.UNLOADED
        assert scene.report("b").replicas[0].gpus == (0,)
        assert not scene.reasons


async def test_a_busy_model_keeps_its_gpu_and_the_next_one_has_the_cpu(
    monkeypatch: pytest.MonkeyPatch, builtin_model: StoredModel, odd_engines: Switch
) -> None:
    nvml = FakeNvml(num_gpus=1, total_bytes=2 * GIB)
    async with run(nvml, monkeypatch, builtin_model, "card") as scene:
        odd_engines.slow_down(0.02)
        async with scene.runtime.orchestrator.open(ask("a", 5000)) as busy:
            await anext(aiter(busy))
            await answer(scene, ask("b", 2))

        assert scene.report("a").replicas[0].gpus == (0,)
        assert scene.report("b").device == "cpu"
        assert scene.reasons == (
            "model b runs with card on the CPU: card on 1 GPU would need 1.3 GiB",
        )


async def test_an_engine_that_computes_on_the_cpu_all_the_same_takes_no_gpu(
    monkeypatch: pytest.MonkeyPatch, builtin_model: StoredModel, odd_engines: Switch
) -> None:
    nvml = FakeNvml(num_gpus=1, total_bytes=2 * GIB)
    engines: dict[str, object] = {"models.a.engines": ["hosted_card"]}
    async with run(nvml, monkeypatch, builtin_model, "card", **engines) as scene:
        odd_engines.slow_down(0.02)
        async with scene.runtime.orchestrator.open(ask("a", 5000)) as busy:
            await anext(aiter(busy))
            places = scene.runtime.manager.places
            card = [Way(engine="hosted_card", num_gpus=1)]
            await scene.wait_until(lambda: places.correct("a", card) == ())

            assert (await scene.start("b")).spec.gpus == (0,)
        assert not scene.reasons


async def test_a_device_that_was_named_is_the_only_one(
    monkeypatch: pytest.MonkeyPatch, builtin_model: StoredModel
) -> None:
    nvml = FakeNvml(num_gpus=3, total_bytes=ROOMY)
    device: dict[str, object] = {"system.device": "cuda:1"}
    async with run(nvml, monkeypatch, builtin_model, "card", **device) as scene:
        worker = await scene.start()
        assert (worker.spec.gpus, visible_to(worker)) == ((1,), "GPU-1a")
        # It sees no others, so that is its first.
        assert worker.spec.engine_spec.device == "cuda"

        nvml.lose(1)
        await scene.wait_until(lambda: scene.report().phase is ModelPhase.FAILED)
        with pytest.raises(ModelUnavailableError, match="has no place on a GPU: card on 1 GPU"):
            await scene.start()

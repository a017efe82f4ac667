"""Options changed while workers run: the whole path but HTTP, with real processes."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.app import open_runtime
from mm_orch.config import load_config
from mm_orch.core.configuration import ConfigurationChanged
from mm_orch.core.events import StepCompleted, WorkerStateChanged
from mm_orch.core.generation import GenerationOptions, GenerationRequest, TokensPrompt
from mm_orch.core.live_error import LiveChangeError
from mm_orch.live.sharing import find_sharing
from mm_orch.tuning.kept_memory import FileMemory
from mm_orch.tuning.loop import Tuner
from mm_orch.tuning.policy import MAX_WINDOWS
from mm_orch.workers.phase import ModelPhase
from tests.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mm_orch.app import Runtime
    from mm_orch.orchestration.reports import ModelReport
    from mm_orch.orchestration.running import RunningGeneration
    from tests.odd_engines import Switch

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("builtin_model", "odd_engines")]

MODEL = "smollm2-135m"
MAX_BATCH = "optimization.batcher.max_batch_size"
MIN_BATCH = "optimization.batcher.min_batch_size"
TIMEOUT = "optimization.batcher.batch_timeout_ms"
MAX_TOKENS = "optimization.batcher.max_batch_tokens"
MEMORY = "optimization.cache.max_memory_mb"
CAPACITY = "monitoring.server.queue_capacity"
DRAIN = "monitoring.server.graceful_shutdown_timeout"
BLOCK_BYTES = 64
INTERVAL = "optimization.tuner.tuning_interval_seconds"
OBSERVED = "optimization.tuner.observation_window_seconds"
# What each switch gives the tuner to change, or takes from it.
TUNED_BY_SWITCH = {
    "optimization.tuner.enable_batch_size_tuning": {MAX_BATCH, MAX_TOKENS, CAPACITY},
    "optimization.tuner.enable_timeout_tuning": {TIMEOUT},
    "optimization.tuner.enable_cache_size_tuning": {MEMORY},
}
# Workers come and go with replicas (test_replicas.py), servers with endpoints (test_fleet.py).
LEFT_OUT = {f"models.{MODEL}.replicas", f"models.{MODEL}.endpoints"}
# What one sequence of 8,192 tokens takes of the echo engine's memory.
FULL_LENGTH_BYTES = 512 * BLOCK_BYTES


@asynccontextmanager
async def run(*engines: str, **settings: object) -> AsyncIterator[tuple[Runtime, Recorder]]:
    overrides = {f"models.{MODEL}.engines": list(engines), MEMORY: 1, **settings}
    config = load_config(path=None, environ={}, overrides=overrides).config
    recorder = Recorder()
    async with open_runtime(config) as runtime:
        runtime.observer.add([recorder])  # type: ignore[attr-defined]  # it is the fan-out
        yield runtime, recorder


def ask(prompt: tuple[int, ...], max_tokens: int, model: str = MODEL) -> GenerationRequest:
    options = GenerationOptions(max_tokens=max_tokens, ignore_eos=True, temperature=0.0)
    return GenerationRequest(
        request_id="r", model=model, prompt=TokensPrompt(prompt), options=options
    )


async def read(generation: RunningGeneration) -> str:
    return "".join([delta.text async for delta in generation])


async def answer(runtime: Runtime, request: GenerationRequest) -> str:
    async with runtime.orchestrator.open(request) as generation:
        return await read(generation)


def report_of(runtime: Runtime) -> ModelReport:
    [report] = runtime.status.status().models
    return report


def draw_all(dice: random.Random) -> dict[str, object]:
    """Return a value for each live option, and for some that are none."""
    return {
        MAX_BATCH: dice.randint(1, 12),
        MIN_BATCH: dice.randint(1, 5),
        TIMEOUT: dice.choice([0, 1, 5, 20]),
        MAX_TOKENS: dice.choice([1, 16, 64, 2048]),
        MEMORY: dice.choice([0, 1, 2, 5]),
        CAPACITY: dice.randint(50, 90),
        DRAIN: dice.randint(0, 90),
        INTERVAL: dice.randint(1, 99),
        OBSERVED: dice.randint(1, 2000),
        "optimization.autoscaler.target_wait_s": dice.choice([0.5, 2.0]),
        "optimization.autoscaler.quiet_s": dice.choice([30.0, 300.0]),
        **{switch: dice.random() < 0.5 for switch in TUNED_BY_SWITCH},
        # No values of theirs.
        "system.device": "cpu",
        f"{MAX_BATCH}_": 4,
    }


def draw(dice: random.Random) -> dict[str, object]:
    """Return new values of some options; they may contradict those of others."""
    choices = draw_all(dice)
    names = dice.sample(list(choices), k=dice.randint(1, 4))
    if dice.random() < 0.1:
        choices |= dict.fromkeys(names, -1)
    return {name: choices[name] for name in names}


async def check_tuner(
    runtime: Runtime, tuner: Tuner, recorder: Recorder, expected: dict[str, Any]
) -> None:
    """The tuner goes by what is told of its options, and changes what they give it alone."""
    before = recorder.of(ConfigurationChanged)
    await tuner.decide()
    report = tuner.report()

    off = {key for switch, keys in TUNED_BY_SWITCH.items() if not expected[switch] for key in keys}
    changed = {one.path for one in recorder.of(ConfigurationChanged)[len(before) :]}
    assert not changed & off
    assert set(report.switched_off) == off
    assert report.window_seconds == expected[INTERVAL]
    assert report.max_windows == max(MAX_WINDOWS, expected[OBSERVED] // expected[INTERVAL])
    expected |= {key: runtime.live.read()[key] for key in changed}


async def ask_on(runtime: Runtime, number: int, stop: asyncio.Event) -> int:
    """Ask again and again until told to stop, and compare each answer; return their number."""
    dice = random.Random(number)  # noqa: S311 - reproducible on purpose
    prompts = [tuple(dice.choices(range(300, 400), k=dice.randint(1, 90))) for _ in range(3)]
    expected: dict[tuple[int, ...], str] = {}
    num_answers = 0
    while not stop.is_set():
        # What is shared with others is kept and found again, as far as it may be.
        prompt = (305,) * 40 + dice.choice(prompts)
        text = await answer(runtime, ask(prompt, len(prompt)))
        assert expected.setdefault(prompt, text) == text
        num_answers += 1
    assert len({len(text) > 0 for text in expected.values()}) <= 1
    return num_answers


async def check_in_force(runtime: Runtime, expected: dict[str, object]) -> None:
    """What is told of every option is what its part goes by."""
    assert dict(runtime.live.read()) == expected
    worker = await runtime.manager.acquire(MODEL)
    wanted = find_sharing(runtime.live.config)
    assert worker.orders.in_force == wanted
    report = report_of(runtime)
    assert report.in_force == wanted
    [told] = runtime.live.report().workers
    assert (told.model, told.max_batch_size) == (MODEL, expected[MAX_BATCH])
    assert (told.batch_timeout_ms, told.max_batch_tokens) == (
        expected[TIMEOUT],
        expected[MAX_TOKENS],
    )
    assert told.kv_target_bytes == report.kv_target_bytes
    assert report.max_batch_size == expected[MAX_BATCH]
    assert report.kv_target_bytes == (wanted.max_kv_bytes or FULL_LENGTH_BYTES)
    assert runtime.status.health().queue_capacity == expected[CAPACITY]


@pytest.mark.parametrize(
    "num_changes", [60, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
async def test_no_request_fails_whatever_is_changed(num_changes: int, tmp_path: Path) -> None:
    dice = random.Random(num_changes)  # noqa: S311 - reproducible on purpose
    async with run("echo") as (runtime, recorder):
        await runtime.manager.acquire(MODEL)
        tuner = Tuner(
            runtime.live,
            observer=runtime.observer,
            kept=FileMemory(tmp_path / "tuner.json"),
            target_p95_ms=None,
        )
        runtime.observer.add([tuner.observer_of_path])  # type: ignore[attr-defined]  # as above
        stop = asyncio.Event()
        expected: dict[str, Any] = dict(runtime.live.read())
        # Each live option has its turn.
        assert set(expected) - LEFT_OUT <= set(draw_all(dice))
        num_refused = num_applied = 0
        async with asyncio.TaskGroup() as clients:
            asking = [clients.create_task(ask_on(runtime, one, stop)) for one in range(8)]
            for _ in range(num_changes):
                values = draw(dice)
                try:
                    changes = await runtime.live.change(values, source="admin", reason="drawn")
                except LiveChangeError:
                    num_refused += 1
                else:
                    told = {change.path: (change.old, change.new) for change in changes}
                    assert told == {
                        name: (expected[name], value)
                        for name, value in values.items()
                        if expected[name] != value
                    }
                    expected |= values
                    num_applied += len(changes)
                await check_in_force(runtime, expected)
                await check_tuner(runtime, tuner, recorder, expected)
                num_steps = len(recorder.of(StepCompleted))
                await recorder.wait_for(StepCompleted, num_steps + 2)
            stop.set()

        assert min(task.result() for task in asking) >= 1
        assert num_refused >= num_changes // 10
        assert num_applied >= num_changes // 2
        changes_of_ours = [
            one for one in recorder.of(ConfigurationChanged) if one.source == "admin"
        ]
        assert len(changes_of_ours) == num_applied
        assert not [one for one in recorder.of(WorkerStateChanged) if not one.is_up]
        report = report_of(runtime)
        assert report.kv_actual_bytes == report.kv_target_bytes


async def test_a_worker_that_is_started_again_has_the_changed_values() -> None:
    async with run("echo", "spare") as (runtime, recorder):
        await runtime.manager.acquire(MODEL)
        values = {MAX_BATCH: 3, TIMEOUT: 7, MEMORY: 2}
        await runtime.live.change(values, source="admin")
        worker = await runtime.manager.acquire(MODEL)
        os.kill(worker.pid, signal.SIGKILL)
        await recorder.wait_for(WorkerStateChanged, 2)

        await answer(runtime, ask((300, 301), 4))
        successor = await runtime.manager.acquire(MODEL)

        assert successor.pid != worker.pid
        assert successor.spec.sharing == find_sharing(runtime.live.config)
        await check_in_force(runtime, {**runtime.live.read(), **values})


async def test_a_change_while_the_worker_loads_reaches_it(odd_engines: Switch) -> None:
    odd_engines.turn_on()
    async with run("hesitant") as (runtime, _):
        runtime.manager.ensure_started(MODEL)
        while not odd_engines.is_hesitating:  # noqa: ASYNC110 - another process tells of it
            await asyncio.sleep(0.01)
        await runtime.live.change({MAX_BATCH: 5, MEMORY: 3}, source="admin")
        odd_engines.turn_off()

        await answer(runtime, ask((300, 301), 4))

        await check_in_force(runtime, {**runtime.live.read(), MAX_BATCH: 5, MEMORY: 3})


async def test_a_smaller_cache_is_told_with_what_is_still_held(odd_engines: Switch) -> None:
    # Whole blocks and one token: so many steps are left until one needs another block.
    prompts = [tuple([first] * 4993) for first in (300, 301)]
    async with run("odd") as (runtime, _):
        async with runtime.orchestrator.open(ask(prompts[0], 900)) as first:
            deltas = aiter(first)
            await anext(deltas)
            async with runtime.orchestrator.open(ask(prompts[1], 900)) as second:
                await anext(aiter(second))
                odd_engines.slow_down(0.2)

                await runtime.live.change({MEMORY: 0}, source="admin")

                report = report_of(runtime)
                assert report.kv_target_bytes == FULL_LENGTH_BYTES
                assert report.kv_actual_bytes == 1 << 20
            odd_engines.speed_up()
            text = "".join([delta.text async for delta in deltas])
        report = report_of(runtime)
        assert report.kv_actual_bytes == report.kv_target_bytes == FULL_LENGTH_BYTES
        assert text


async def test_one_worker_that_refuses_leaves_all_as_they_were() -> None:
    async with run("full") as (runtime, recorder):
        worker = await runtime.manager.acquire(MODEL)
        before = dict(runtime.live.read())

        with pytest.raises(LiveChangeError, match="is refused by full, which runs smollm2") as told:
            await runtime.live.change({MEMORY: 2, MAX_BATCH: 3, CAPACITY: 7}, source="tuner")

        assert [fault.key for fault in told.value.faults] == [MEMORY]
        await answer(runtime, ask((300, 301), 4))
        await check_in_force(runtime, before)
        assert worker.spec.sharing == worker.orders.in_force
        assert not recorder.of(ConfigurationChanged)
        assert not runtime.live.history


async def test_an_engine_with_a_batcher_of_its_own_is_bounded_in_front(
    odd_engines: Switch,
) -> None:
    async with run("streaming") as (runtime, recorder):
        await runtime.manager.acquire(MODEL)
        await runtime.live.change({MAX_BATCH: 3}, source="admin")
        odd_engines.slow_down(0.01)

        texts = await asyncio.gather(
            *(answer(runtime, ask((300 + number, 400), 12)) for number in range(10))
        )

        assert all(texts)
        sizes = [step.batch_size for step in recorder.of(StepCompleted)]
        assert max(sizes) == 3
        assert report_of(runtime).max_batch_size == 3

        await runtime.live.change({MAX_BATCH: 7}, source="admin")
        await asyncio.gather(
            *(answer(runtime, ask((300 + number, 400), 12)) for number in range(10))
        )
        sizes = [step.batch_size for step in recorder.of(StepCompleted)]
        assert max(sizes) == 7


async def test_what_a_running_engine_cannot_change_is_refused_with_its_name() -> None:
    async with run("streaming") as (runtime, _):
        await runtime.manager.acquire(MODEL)
        before = dict(runtime.live.read())
        values = {MAX_BATCH: 64, TIMEOUT: 1, MAX_TOKENS: 16, MEMORY: 64, CAPACITY: 7}

        with pytest.raises(LiveChangeError) as told:
            await runtime.live.change(values, source="tuner")

        assert {fault.key for fault in told.value.faults} == set(values) - {CAPACITY}
        assert all("streaming, which runs smollm2-135m" in str(one) for one in told.value.faults)
        assert dict(runtime.live.read()) == before
        assert report_of(runtime).phase is ModelPhase.READY


async def test_the_history_has_the_newest_change_first() -> None:
    async with run("echo") as (runtime, recorder):
        await runtime.live.change({CAPACITY: 9}, source="admin", reason="first")
        await runtime.live.change({CAPACITY: 8, DRAIN: 1}, source="tuner", reason="second")

        told = [
            (one.path, one.old, one.new, one.source, one.reason) for one in runtime.live.history
        ]
        assert told == [
            (DRAIN, 30, 1, "tuner", "second"),
            (CAPACITY, 9, 8, "tuner", "second"),
            (CAPACITY, 100, 9, "admin", "first"),
        ]
        assert [one.source for one in recorder.of(ConfigurationChanged)] == [
            "admin",
            "tuner",
            "tuner",
        ]
        origins = {one.path: one.origin for one in runtime.live.report().options}
        assert (origins[CAPACITY], origins[TIMEOUT]) == ("tuner", "default")

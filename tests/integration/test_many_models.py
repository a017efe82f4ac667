"""Several models in one bound of memory, with real workers of the echo engine."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import psutil
import pytest

from mm_orch.app import open_runtime
from mm_orch.config import load_config
from mm_orch.core.errors import DeadlineError, ModelBusyError, ModelUnavailableError
from mm_orch.core.generation import GenerationOptions, GenerationRequest, TokensPrompt
from mm_orch.workers.phase import ModelPhase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mm_orch.app import Runtime
    from mm_orch.models.stored import StoredModel
    from mm_orch.orchestration.remote import RemoteGeneration
    from mm_orch.orchestration.running import RunningGeneration
    from tests.odd_engines import Switch

pytestmark = pytest.mark.model


@pytest.fixture
def model_entries(builtin_model: StoredModel) -> dict[str, object]:
    """Three models of the same files, each a model of its own to the server."""
    return {
        f"models.{name}.source": f"path:{builtin_model.directory}" for name in ("a", "b", "c")
    } | {f"models.{name}.engines": ["echo"] for name in ("a", "b", "c")}


@asynccontextmanager
async def run(entries: dict[str, object], **settings: object) -> AsyncIterator[Runtime]:
    config = load_config(path=None, environ={}, overrides={**entries, **settings}).config
    async with open_runtime(config) as runtime:
        yield runtime


def ask(model: str, max_tokens: int = 4, timeout_s: float | None = None) -> GenerationRequest:
    return GenerationRequest(
        request_id="r",
        model=model,
        prompt=TokensPrompt((504, 338)),
        options=GenerationOptions(max_tokens=max_tokens, ignore_eos=True),
        timeout_s=timeout_s,
    )


async def answer(runtime: Runtime, request: GenerationRequest) -> str:
    async with runtime.orchestrator.open(request) as generation:
        return "".join([delta.text async for delta in generation])


async def drain(generation: RunningGeneration | RemoteGeneration) -> None:
    async for _ in generation:
        pass


def phases(runtime: Runtime) -> dict[str, ModelPhase]:
    return {report.name: report.phase for report in runtime.status.status().models}


async def test_several_models_answer_at_the_same_time(model_entries: dict[str, object]) -> None:
    async with run(model_entries) as runtime:
        answers = await asyncio.gather(*(answer(runtime, ask(name)) for name in "abcabc"))

        assert len(set(answers)) == 1
        reports = [report for report in runtime.status.status().models if report.name in "abc"]
        assert [report.phase for report in reports] == [ModelPhase.READY] * 3
        assert len({report.worker_pid for report in reports}) == 3


async def test_the_least_recently_used_idle_model_leaves_for_another(
    model_entries: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mm_orch.optimization.residency._MIN_STAY_S", 0.0)
    monkeypatch.setattr("mm_orch.optimization.residency._STAY_FACTOR", 0.0)
    async with run(model_entries, **{"system.max_cached_models": 2}) as runtime:
        for name in "aba":
            await answer(runtime, ask(name))
        leaving = runtime.manager.find_supervisor("b")
        assert leaving is not None
        assert leaving.worker is not None
        pid = leaving.worker.pid

        await answer(runtime, ask("c"))

        assert phases(runtime)["b"] is ModelPhase.UNLOADED
        assert {phases(runtime)[name] for name in "ac"} == {ModelPhase.READY}
        assert not psutil.pid_exists(pid)
        # It comes back when it is asked for.
        assert await answer(runtime, ask("b"))


async def test_a_busy_model_stays_and_who_waits_for_its_place_is_told_why(
    model_entries: dict[str, object],
) -> None:
    async with (
        run(model_entries, **{"system.max_cached_models": 1}) as runtime,
        runtime.orchestrator.open(ask("a", 5000)) as busy,
    ):
        await anext(aiter(busy))
        with pytest.raises(DeadlineError):
            await answer(runtime, ask("b", timeout_s=1.0))

        [report] = [one for one in runtime.status.status().models if one.name == "b"]
        assert report.phase is ModelPhase.LOADING
        assert "system.max_cached_models is 1; a busy" in report.detail
        assert phases(runtime)["a"] is ModelPhase.READY


async def test_memory_is_measured_and_bounds_how_many_are_loaded(
    model_entries: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mm_orch.optimization.residency._MIN_STAY_S", 0.0)
    monkeypatch.setattr("mm_orch.optimization.residency._STAY_FACTOR", 0.0)
    async with run(model_entries, **{"system.model_memory_mb": 1}) as runtime:
        # Each is larger than everything, so it may be there alone.
        for name in "ab":
            await answer(runtime, ask(name))

        assert phases(runtime)["a"] is ModelPhase.UNLOADED
        await runtime.orchestrator.load_model("b")
        [report] = [one for one in runtime.status.status().models if one.name == "b"]
        assert report.phase is ModelPhase.READY


async def test_an_idle_model_leaves_after_its_time(model_entries: dict[str, object]) -> None:
    async with run(model_entries, **{"models.a.idle_unload_s": 0.05}) as runtime:
        await answer(runtime, ask("a"))
        await answer(runtime, ask("b"))
        async with asyncio.timeout(60):
            while runtime.manager.find_supervisor("a") is not None:  # noqa: ASYNC110 - it asks
                await asyncio.sleep(0.01)

        assert phases(runtime)["a"] is ModelPhase.UNLOADED
        assert phases(runtime)["b"] is ModelPhase.READY
        assert await answer(runtime, ask("a"))


async def test_models_are_loaded_and_unloaded_when_told(model_entries: dict[str, object]) -> None:
    async with run(model_entries) as runtime:
        await runtime.orchestrator.load_model("a")
        assert phases(runtime)["a"] is ModelPhase.READY

        async with runtime.orchestrator.open(ask("a", 5000)) as busy:
            await anext(aiter(busy))
            with pytest.raises(ModelBusyError, match="has 1 requests now"):
                await runtime.orchestrator.unload_model("a")
        await runtime.orchestrator.unload_model("a")

        assert phases(runtime)["a"] is ModelPhase.UNLOADED
        assert await answer(runtime, ask("a"))


async def test_a_forced_unload_breaks_off_what_the_model_does_and_nothing_else(
    model_entries: dict[str, object],
    odd_engines: Switch,  # noqa: ARG001 - the slow one, which is not done before it is told to
) -> None:
    async with run(model_entries, **{"models.a.engines": ["slow"]}) as runtime:
        async with (
            runtime.orchestrator.open(ask("a", 5000)) as read,
            runtime.orchestrator.open(ask("a", 5000)) as unread,
            runtime.orchestrator.open(ask("b", 5000)) as other,
        ):
            await anext(aiter(read))
            reading = asyncio.create_task(drain(read))

            await runtime.orchestrator.unload_model("a", is_forced=True)

            for broken_off in (reading, drain(unread)):
                with pytest.raises(ModelUnavailableError, match="Model a was unloaded"):
                    await broken_off
            await drain(other)
            assert other.usage.num_generated_tokens == 5000

        assert phases(runtime)["a"] is ModelPhase.UNLOADED
        assert await answer(runtime, ask("a"))


async def test_a_forced_unload_ends_the_wait_for_a_model_that_loads(
    model_entries: dict[str, object], odd_engines: Switch
) -> None:
    odd_engines.turn_on()
    async with run(model_entries, **{"models.a.engines": ["hesitant"]}) as runtime:
        waiting = asyncio.create_task(answer(runtime, ask("a")))
        while runtime.status.status().num_waiting == 0:  # noqa: ASYNC110 - it asks
            await asyncio.sleep(0)

        await runtime.orchestrator.unload_model("a", is_forced=True)

        with pytest.raises(ModelUnavailableError, match="Model a was unloaded"):
            await waiting
        assert phases(runtime)["a"] is ModelPhase.UNLOADED
        odd_engines.turn_off()
        assert await answer(runtime, ask("a"))

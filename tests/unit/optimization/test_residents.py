"""Who has a place in memory, who waits for one, and who may be made to leave meanwhile."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.core.errors import ModelUnavailableError
from mm_orch.core.events import ErrorOccurred, ModelUnloaded
from mm_orch.optimization.ladder import EngineLadder
from mm_orch.optimization.replica_set import ReplicaSet, Wish
from mm_orch.optimization.residents import LoadedModel, Residents
from mm_orch.optimization.supervisor import ModelSupervisor
from mm_orch.workers.phase import ModelPhase
from tests.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from mm_orch.optimization.news import News
    from mm_orch.optimization.replica_set import Replica

PATIENCE_S = 10


async def never(*_: object) -> Any:
    raise AssertionError("nothing is started here")


def make_residents(recorder: Recorder, max_models: int = 1) -> Residents:
    return Residents(
        budget_bytes=100,
        max_models=max_models,
        expect_bytes=lambda _: 60,
        idle_unload_s=lambda _: None,
        observer=recorder,
        clock=time.monotonic,
    )


def add(
    residents: Residents, name: str, recorder: Recorder, running: Coroutine[Any, Any, None]
) -> LoadedModel:
    """Have a model be there whose supervisor is never run, and which does this."""

    def make_supervisor(replica: Replica, news: News) -> ModelSupervisor:
        return ModelSupervisor(
            name,
            EngineLadder(["echo"], time.monotonic),
            probe=never,
            ensure_files=never,
            launch=never,
            find_fault=never,
            observer=recorder,
            clock=time.monotonic,
            watchdog_timeout_s=1,
            replica=replica.number,
            news=news,
        )

    replicas = ReplicaSet(name, make_supervisor, find_obstacle=never, observer=recorder)
    model = LoadedModel(replicas, time.monotonic())
    residents.add(name, model)
    model.task = asyncio.create_task(running)
    return model


async def take_place(residents: Residents, name: str, has_place: asyncio.Event) -> None:
    await residents.make_room(name)
    has_place.set()
    await asyncio.Event().wait()


async def wait_until_it_waits(model: LoadedModel) -> None:
    while "waiting for a place" not in model.supervisor.detail:  # noqa: ASYNC110 - nothing tells it
        await asyncio.sleep(0)


async def test_two_that_look_for_room_at_the_same_moment_both_find_it() -> None:
    residents = make_residents(Recorder(), max_models=2)

    obstacles = await asyncio.gather(residents.find_obstacle("a"), residents.find_obstacle("b"))

    assert obstacles == ["", ""]


async def test_a_model_that_waits_for_memory_is_unloaded_at_once_and_no_other_is() -> None:
    recorder, has_place = Recorder(), asyncio.Event()
    residents = make_residents(recorder)
    async with asyncio.timeout(PATIENCE_S):
        # It is loading for ever, and so is busy.
        placed = add(residents, "a", recorder, take_place(residents, "a", has_place))
        await has_place.wait()
        waiting = add(residents, "b", recorder, residents.make_room("b"))
        asking = asyncio.create_task(waiting.replicas.place(Wish()))
        await wait_until_it_waits(waiting)

        await residents.unload("b", "it was asked to")

        with pytest.raises(ModelUnavailableError, match="it is being stopped"):
            await asking
    assert residents.loaded == [placed]
    assert placed.num_bytes == 60
    assert [one.model for one in recorder.of(ModelUnloaded)] == ["b"]
    await residents.unload("a", "the test is over")


async def test_a_busy_model_is_unloaded_while_another_waits_for_its_memory() -> None:
    recorder, has_place, has_next = Recorder(), asyncio.Event(), asyncio.Event()
    residents = make_residents(recorder)
    async with asyncio.timeout(PATIENCE_S):
        add(residents, "a", recorder, take_place(residents, "a", has_place))
        await has_place.wait()
        waiting = add(residents, "b", recorder, take_place(residents, "b", has_next))
        await wait_until_it_waits(waiting)

        await residents.unload("a", "it was asked to")

        await has_next.wait()
    assert residents.loaded == [waiting]
    await residents.unload("b", "the test is over")


async def test_a_model_that_leaves_for_another_ends_in_peace_though_that_one_is_unloaded() -> None:
    recorder, has_place = Recorder(), asyncio.Event()
    is_ending, may_end, has_ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    residents = make_residents(recorder)

    async def end_slowly() -> None:
        try:
            await take_place(residents, "a", has_place)
        finally:
            is_ending.set()
            await may_end.wait()
            has_ended.set()

    async with asyncio.timeout(PATIENCE_S):
        idle = add(residents, "a", recorder, end_slowly())
        await has_place.wait()
        idle.supervisor.phase = ModelPhase.READY
        # Long ago, so that it may leave.
        idle.supervisor.ready_at_s = -1e9
        add(residents, "b", recorder, residents.make_room("b"))
        await is_ending.wait()

        unloading = asyncio.create_task(residents.unload("b", "it was asked to"))
        await asyncio.sleep(0)
        may_end.set()
        await unloading

    assert has_ended.is_set()
    assert residents.loaded == []
    assert [one.model for one in recorder.of(ModelUnloaded)] == ["a", "b"]


async def test_a_fault_in_a_look_at_the_memory_is_told_and_the_next_one_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mm_orch.optimization.residents._MEASURE_EVERY_S", 0.01)
    recorder, has_place, num_asked = Recorder(), asyncio.Event(), 0

    def find_limit(_: str) -> float:
        nonlocal num_asked
        num_asked += 1
        if num_asked == 1:
            raise RuntimeError("never thought of")
        return 0.0

    residents = Residents(
        budget_bytes=100,
        max_models=1,
        expect_bytes=lambda _: 60,
        idle_unload_s=find_limit,
        observer=recorder,
        clock=time.monotonic,
    )
    model = add(residents, "a", recorder, take_place(residents, "a", has_place))
    model.supervisor.phase = ModelPhase.READY
    keeping = asyncio.create_task(residents.keep_bounds())

    await recorder.wait_for(ModelUnloaded)

    [error] = recorder.of(ErrorOccurred)
    assert (error.component, error.error_type) == ("residents", "RuntimeError")
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)

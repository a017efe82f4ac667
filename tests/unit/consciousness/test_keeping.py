"""What the mind remembers is on disk soon, and never in two places or in none."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.consciousness import mind_state
from mm_orch.consciousness.keeping import Keeper
from mm_orch.core.errors import StorageError
from mm_orch.core.events import RequestStatus
from mm_orch.storage.outcome_schema import open_outcome_database
from mm_orch.storage.outcomes import Remembered, StoredMood, StoredStage
from mm_orch.storage.sql_outcomes import SqlOutcomes
from tests.unit.consciousness.scene import Scene, generated, outcome, ran

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from mm_orch.storage.outcomes import Changes

PATIENCE_S = 10


@dataclass
class ScriptedStore:
    """Keeps what it is given, where nothing is wrong with it.

    Attributes:
        is_broken: every call fails.
        has_kept: set by each call that kept something.
        gate: a call waits for it.
    """

    remembered: Remembered = field(default_factory=Remembered)
    kept: list[Changes] = field(default_factory=list)
    is_broken: bool = False
    has_kept: asyncio.Event = field(default_factory=asyncio.Event)
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def failure(self) -> str | None:
        return "broken" if self.is_broken else None

    async def load(self) -> Remembered:
        self._check()
        return self.remembered

    async def keep(self, changes: Changes) -> None:
        self.has_begun.set()
        await self.gate.wait()
        self._check()
        self.kept.append(changes)
        self.has_kept.set()

    def _check(self) -> None:
        if self.is_broken:
            raise StorageError("broken")


def make_keeper(scene: Scene, store: ScriptedStore) -> Keeper:
    return Keeper(scene.mind.state, store, gather_s=0.0, retry_s=0.0)


def ids_of(store: ScriptedStore) -> list[str]:
    return [one.request_id for changes in store.kept for one in changes.outcomes]


async def test_what_was_kept_is_known_again() -> None:
    store = ScriptedStore(
        Remembered(
            mood=StoredMood(valence=0.5, arousal=0.25, at_s=1_000_000.0),
            stage=StoredStage(number=1, num_runs=3, num_successes=2),
            outcomes=(outcome(request_id="old"),),
        )
    )
    scene = Scene(store=store)

    async with make_keeper(scene, store).running():
        state = scene.mind.state

    assert (state.mood.valence, state.mood.arousal) == (0.5, 0.25)
    assert (state.development.stage, state.development.num_runs) == (1, 3)
    assert [one.request_id for one in state.memory] == ["old"]
    # Nothing has happened, so nothing is written.
    assert store.kept == []


async def test_a_change_is_written_by_itself() -> None:
    store = ScriptedStore()
    scene = Scene(store=store)

    async with asyncio.timeout(PATIENCE_S), make_keeper(scene, store).running():
        scene.mind.observe(ran())
        await store.has_kept.wait()

    assert ids_of(store) == ["r1"]
    assert store.kept[0].mood.valence > 0


async def test_the_end_writes_what_is_left_and_each_outcome_once() -> None:
    store = ScriptedStore()
    scene = Scene(store=store)

    async with asyncio.timeout(PATIENCE_S), make_keeper(scene, store).running():
        scene.mind.observe(ran("first"))
        store.gate.clear()
        await store.has_begun.wait()
        # While the first one is being written the server is told to stop.
        scene.mind.observe(ran("second"))
        asyncio.get_running_loop().call_soon(store.gate.set)

    assert ids_of(store) == ["first", "second"]


async def test_what_cannot_be_written_is_written_when_it_can_be() -> None:
    store = ScriptedStore(is_broken=True)
    scene = Scene(store=store)

    async with asyncio.timeout(PATIENCE_S), make_keeper(scene, store).running():
        scene.mind.observe(ran())
        await scene.mind.take_feedback("alice", "r1", -1.0)
        await asyncio.sleep(0)
        store.is_broken = False
        await store.has_kept.wait()

    assert ids_of(store) == ["r1"]
    assert store.kept[0].feedback == {("alice", "r1"): -1.0}


async def test_before_what_was_kept_is_known_nothing_is_written_over_it() -> None:
    store = ScriptedStore(
        Remembered(stage=StoredStage(number=2, num_runs=9, num_successes=9)), is_broken=True
    )
    scene = Scene(store=store)

    async with asyncio.timeout(PATIENCE_S), make_keeper(scene, store).running():
        scene.mind.observe(ran())
        await asyncio.sleep(0)
        assert store.kept == []
        store.is_broken = False
        await store.has_kept.wait()

    # Of the runs since, those count that are of the same stage.
    assert store.kept[-1].stage == StoredStage(number=2, num_runs=9, num_successes=9)


async def test_a_store_that_never_works_ends_all_the_same() -> None:
    store = ScriptedStore(is_broken=True)
    scene = Scene(store=store)

    async with asyncio.timeout(PATIENCE_S), make_keeper(scene, store).running():
        scene.mind.observe(ran())

    assert store.kept == []
    assert (await scene.mind.report()).memory.problem == "broken"


async def test_what_waits_to_be_written_is_bounded_and_what_is_lost_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mind_state, "MAX_PENDING", 2)
    store = ScriptedStore()
    scene = Scene(store=store)

    async with asyncio.timeout(PATIENCE_S), make_keeper(scene, store).running():
        store.is_broken = True
        for number in range(5):
            scene.mind.observe(ran(f"r{number}"))
            await scene.mind.take_feedback("alice", f"r{number}", 0.5)
            # It is tried, and fails.
            await asyncio.sleep(0)
        while "are lost while" not in caplog.text:  # noqa: ASYNC110 - tried once more
            await asyncio.sleep(0)
        store.is_broken = False
        await store.has_kept.wait()

    assert ids_of(store) == ["r3", "r4"]
    assert list(store.kept[0].feedback) == [("alice", "r3"), ("alice", "r4")]
    assert [one.getMessage() for one in caplog.records] == [
        "outcomes and scores are lost while none can be stored",
        "6 outcomes and scores were lost",
    ]


async def test_all_of_it_outlasts_the_process(tmp_path: Path) -> None:
    async def live(scene: Scene) -> Scene:
        database = open_outcome_database(tmp_path / "consciousness.sqlite3")
        try:
            async with Keeper(scene.mind.state, SqlOutcomes(database)).running():
                scene.mind.observe(generated("a", status=RequestStatus.ERROR))
                scene.mind.observe(ran("b", confidence=0.5))
                await scene.mind.take_feedback("alice", "b", 0.5)
        finally:
            await database.close()
        return scene

    first = await live(Scene(store=ScriptedStore()))
    second = Scene(store=ScriptedStore())
    database = open_outcome_database(tmp_path / "consciousness.sqlite3")
    try:
        async with Keeper(second.mind.state, SqlOutcomes(database)).running():
            pass
    finally:
        await database.close()

    assert list(second.mind.state.memory) == list(first.mind.state.memory)
    assert second.mind.state.mood == first.mind.state.mood
    assert second.mind.state.development == first.mind.state.development

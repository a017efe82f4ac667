"""Mood, stage and outcomes on disk."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import StorageError
from mm_orch.storage.outcome_schema import _VERSION_1, open_outcome_database
from mm_orch.storage.outcomes import (
    MAX_OUTCOMES_OF_KEY,
    Changes,
    Outcome,
    Remembered,
    StoredMood,
    StoredStage,
)
from mm_orch.storage.postgres_database import PostgresDatabase
from mm_orch.storage.sql_outcomes import SqlOutcomes
from mm_orch.storage.sqlite_database import SqliteDatabase
from tests.unit.consciousness.scene import outcome

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator

    from tests.unit.storage.scene import Place

MOOD = StoredMood(valence=-0.25, arousal=0.5, at_s=12.5)
STAGE = StoredStage(number=1, num_runs=7, num_successes=6)


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[SqlOutcomes]:
    database = (
        open_outcome_database(place / "outcomes.sqlite3")
        if isinstance(place, Path)
        else PostgresDatabase(place)
    )
    try:
        yield SqlOutcomes(database)
    finally:
        await database.close()


def changes(*outcomes: Outcome, stage: StoredStage = STAGE, **fields: object) -> Changes:
    return Changes(mood=MOOD, stage=stage, outcomes=outcomes, **fields)  # type: ignore[arg-type]  # by name


async def test_a_new_file_remembers_nothing(place: Place) -> None:
    async with opened(place) as store:
        assert await store.load() == Remembered()


async def test_what_is_kept_comes_back_as_it_was(place: Place) -> None:
    kept = (
        outcome(confidence=0.125, feedback=-1.0, belief_by_workflow={"a": 0.25, "b": 0.75}),
        outcome(kind="generation", request_id="r2", workflow="", is_success=False, at_s=2.5),
    )
    async with opened(place) as store:
        await store.keep(changes(*kept))

    async with opened(place) as store:
        assert await store.load() == Remembered(mood=MOOD, stage=STAGE, outcomes=kept)


async def test_a_file_of_before_beliefs_were_kept_is_read_and_written_on(tmp_path: Path) -> None:
    database = SqliteDatabase(
        tmp_path / "outcomes.sqlite3", migrations=(_VERSION_1,), content="outcomes"
    )

    def add(connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT INTO outcomes (kind, request_id, caller, workflow, model, at_s, is_success,"
            " latency_s, num_tokens) VALUES ('run', 'r1', 'alice', 'chat_generate', 'small', 0, 1,"
            " 2, 10)"
        )

    await database.write(add)
    await database.close()

    later = outcome(request_id="r2", belief_by_workflow={"a": 1.0})
    async with opened(tmp_path) as store:
        await store.keep(changes(later))
        loaded = await store.load()

    assert loaded.outcomes == (outcome(), later)


async def test_feedback_finds_outcomes_of_before_and_those_that_come_with_it(
    place: Place,
) -> None:
    async with opened(place) as store:
        await store.keep(changes(outcome(), outcome(caller="bob")))
        await store.keep(changes(outcome(kind="generation"), feedback={("alice", "r1"): 0.5}))
        loaded = await store.load()

    assert [(one.caller, one.feedback) for one in loaded.outcomes] == [
        ("alice", 0.5),
        ("bob", None),
        ("alice", 0.5),
    ]


async def test_of_each_key_only_the_last_ones_stay(place: Place) -> None:
    many = [outcome(request_id=f"r{number}") for number in range(MAX_OUTCOMES_OF_KEY + 3)]
    async with opened(place) as store:
        await store.keep(changes(outcome(model="other"), *many[:100]))
        await store.keep(changes(*many[100:]))
        loaded = await store.load()

    assert [one.request_id for one in loaded.outcomes] == [
        "r1",
        *(f"r{number}" for number in range(3, MAX_OUTCOMES_OF_KEY + 3)),
    ]


async def test_a_stage_that_another_process_has_reached_stays(place: Place) -> None:
    later = StoredStage(number=2, num_runs=0, num_successes=0)
    async with opened(place) as store:
        await store.keep(changes(stage=later))
        await store.keep(changes(stage=STAGE))
        after_earlier = (await store.load()).stage
        await store.keep(changes(stage=StoredStage(number=2, num_runs=1, num_successes=1)))
        after_same = (await store.load()).stage

    assert after_earlier == later
    assert after_same == StoredStage(number=2, num_runs=1, num_successes=1)


async def test_a_file_of_a_newer_program_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.sqlite3"
    newer = SqliteDatabase(path, migrations=((), (), ()), content="outcomes")
    await newer.write(lambda _: None)
    await newer.close()

    async with opened(tmp_path) as store:
        with pytest.raises(StorageError, match="The outcomes are of version 3"):
            await store.load()
        assert store.failure is not None


async def test_what_another_server_has_stored_is_rated_for_its_caller_alone(place: Place) -> None:
    async with opened(place) as first, opened(place) as second:
        await first.keep(changes(outcome(), outcome(kind="generation"), outcome(caller="bob")))
        is_rated = await second.rate("alice", "r1", -0.5)
        is_known = await second.rate("carol", "r1", 1.0)
        loaded = await first.load()

    assert (is_rated, is_known) == (True, False)
    assert [(one.caller, one.feedback) for one in loaded.outcomes] == [
        ("alice", -0.5),
        ("alice", -0.5),
        ("bob", None),
    ]

"""What tuners of several servers find is exchanged over their database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.storage.postgres_database import PostgresDatabase
from mm_orch.storage.shared_tuning import SharedTuning
from mm_orch.tuning.kept_memory import FileMemory, SharedMemory, find_memory
from mm_orch.tuning.knobs import BATCH_SIZE
from mm_orch.tuning.load import LoadLevel

if TYPE_CHECKING:
    from pathlib import Path

LOW, HIGH, OTHER = LoadLevel(1, 1), LoadLevel(4, 8), LoadLevel(0, 2)


async def test_what_one_server_found_another_takes_and_what_one_drops_all_drop(
    database_url: str,
) -> None:
    databases = [PostgresDatabase(database_url) for _ in range(2)]
    first, second = (SharedMemory(SharedTuning(database)) for database in databases)
    remembered = second.memory
    first.memory.remember(LOW, {BATCH_SIZE: 4})
    await first.exchange()
    remembered.remember(HIGH, {BATCH_SIZE: 32})
    await second.exchange()
    await first.exchange()
    both = first.memory.settings, second.memory.settings
    first.memory.forget(LOW)
    first.memory.remember(OTHER, {BATCH_SIZE: 2})
    await first.exchange()
    await second.exchange()

    assert both[0] == both[1] == {LOW: {BATCH_SIZE: 4}, HIGH: {BATCH_SIZE: 32}}
    # The policy goes on with the memory that it was given.
    assert remembered is second.memory
    assert remembered.settings == {HIGH: {BATCH_SIZE: 32}, OTHER: {BATCH_SIZE: 2}}
    for database in databases:
        await database.close()


async def test_an_option_that_nobody_tunes_any_more_is_left_out(database_url: str) -> None:
    database = PostgresDatabase(database_url)
    await SharedTuning(database).exchange({(1, 1): {BATCH_SIZE: 4, "gone": 1}}, ())
    kept = SharedMemory(SharedTuning(database))
    await kept.exchange()

    assert kept.memory.settings == {LOW: {BATCH_SIZE: 4}}
    await database.close()


async def test_without_the_database_the_server_goes_by_what_it_found_itself(
    tmp_path: Path, database_url: str
) -> None:
    away, back = (
        PostgresDatabase(f"postgresql:///x?host={tmp_path}"),
        PostgresDatabase(database_url),
    )
    kept = SharedMemory(SharedTuning(away))
    kept.memory.remember(LOW, {BATCH_SIZE: 4})
    await kept.exchange()
    alone = kept.memory.settings
    kept._store = SharedTuning(back)
    await kept.exchange()

    assert alone == kept.memory.settings == {LOW: {BATCH_SIZE: 4}}
    assert await SharedTuning(back).exchange({}, ()) == {(1, 1): {BATCH_SIZE: 4}}
    await away.close()
    await back.close()


def test_a_server_by_itself_has_a_file(tmp_path: Path) -> None:
    assert isinstance(find_memory(None, tmp_path / "tuner.json"), FileMemory)

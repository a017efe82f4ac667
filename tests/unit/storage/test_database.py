"""The file of sessions: full, damaged, replaced, in use elsewhere, and what is told of it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import (
    QueueFullError,
    SessionNotFoundError,
    StorageBusyError,
    StorageError,
)
from mm_orch.storage import sqlite_database as database_module
from mm_orch.storage.sessions import MAX_MESSAGE_BYTES
from mm_orch.storage.sqlite_database import SqliteDatabase
from tests.unit.storage.scene import FILE, OWNER, fill, open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mm_orch.storage.sql_sessions import SqlSessions


def names_of(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [name for [name] in connection.execute("SELECT session_id FROM sessions ORDER BY 1")]


async def append(store: SqlSessions, session_id: str, *, is_new: bool, answer: str = "") -> int:
    kept = await store.append_turn(OWNER, session_id, question="q", answer=answer, is_new=is_new)
    return kept.num_turns


def limit_pages(num_pages: int) -> Callable[[sqlite3.Connection], None]:
    return lambda connection: connection.execute(f"PRAGMA max_page_count = {num_pages}").close()


async def test_nothing_is_made_before_sessions_are_used(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data") as store:
        assert store.failure is None
        assert not (tmp_path / "data").exists()


async def test_a_file_that_is_no_database_is_told_of_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("something else entirely, and long enough" * 100)
    async with open_store(tmp_path) as store:
        with pytest.raises(
            StorageError, match=r"^sessions\.sqlite3 cannot be used: file is not a"
        ) as told:
            await store.list_sessions(OWNER, limit=1)
        failure = store.failure

        # Repaired while the server runs: the next call opens it.
        (tmp_path / FILE).unlink()
        assert await store.list_sessions(OWNER, limit=1) == ()
        assert store.failure is None

    assert failure == told.value.message
    assert str(tmp_path) not in str(told.value)


async def test_a_folder_that_cannot_be_used_is_named_in_the_log_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data").write_text("no folder")
    async with open_store(tmp_path / "data") as store:
        with pytest.raises(StorageError, match="cannot be used: File exists") as told:
            await fill(store, "s", 1)

    assert str(tmp_path) not in str(told.value)
    assert str(tmp_path / "data" / FILE) in caplog.text


async def test_a_damaged_file_is_opened_anew_once_it_is_repaired(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await fill(store, "s", 1)
    whole = (tmp_path / FILE).read_bytes()
    # All but the page that says what tables there are.
    (tmp_path / FILE).write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))

    async with open_store(tmp_path) as store:
        with pytest.raises(StorageError, match="malformed"):
            await store.list_sessions(OWNER, limit=1)
        failure = store.failure
        (tmp_path / FILE).write_bytes(whole)

        assert await append(store, "s", is_new=False) == 2
        assert store.failure is None

    assert "malformed" in str(failure)


async def test_what_is_told_to_be_stored_is_in_the_file_that_has_the_name(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await fill(store, "s", 1)
        (tmp_path / FILE).unlink()

        with pytest.raises(SessionNotFoundError):
            await append(store, "s", is_new=False)
        await fill(store, "t", 1)

    assert names_of(tmp_path / FILE) == ["t"]


async def test_a_backup_that_is_put_back_is_not_mixed_with_what_was_there(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await fill(store, "old", 1)
    shutil.copy(tmp_path / FILE, tmp_path / "backup")

    async with open_store(tmp_path) as store:
        await fill(store, "since", 50)
        (tmp_path / "backup").rename(tmp_path / FILE)

        assert await append(store, "old", is_new=False) == 2
        await fill(store, "later", 1)

    assert names_of(tmp_path / FILE) == ["later", "old"]


async def test_a_full_disk_undoes_the_turn_and_the_next_one_is_stored_when_there_is_room(
    tmp_path: Path,
) -> None:
    async with open_store(tmp_path) as store:
        await fill(store, "s", 1)
        await store._database.write(limit_pages(1))
        with pytest.raises(StorageError, match="database or disk is full"):
            await append(store, "s", answer="b" * MAX_MESSAGE_BYTES, is_new=False)
        after = await store.read(OWNER, "s")
        # That it can be read says nothing of writing.
        failure = store.failure
        await store._database.write(limit_pages(10**6))
        num_turns = await append(store, "s", answer="b", is_new=False)

        assert store.failure is None

    assert "is full" in str(failure)
    assert len(after.turns) == 1
    assert num_turns == 2
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (4,)


async def test_a_file_that_another_process_writes_is_to_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_BUSY_TIMEOUT_S", 0)
    async with open_store(tmp_path) as store:
        await fill(store, "s", 1)
        with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageBusyError, match="Another process is writing"):
                await append(store, "s", is_new=False)
            other.execute("ROLLBACK")

        assert store.failure is None
        assert await append(store, "s", is_new=False) == 2


async def test_an_sqlite_without_strict_tables_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 9))
    async with open_store(tmp_path) as store:
        with pytest.raises(StorageError, match=r"sessions and documents need 3\.37 or newer"):
            await store.list_sessions(OWNER, limit=1)

    assert not (tmp_path / FILE).exists()


def modes_of(directory: Path) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in directory.iterdir()}


async def test_only_the_user_may_read_the_file(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await fill(store, "s", 1)
        modes = modes_of(tmp_path)

    assert modes == {0o600}


async def test_calls_over_the_bound_are_refused_at_once(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / FILE, max_waiting=2)
    waiting = [asyncio.create_task(database.read(lambda _: None)) for _ in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(QueueFullError, match="2 calls wait"):
        await database.read(lambda _: None)

    await asyncio.gather(*waiting)
    await database.read(lambda _: None)
    await database.close()

"""Reading beside long searches and writes; searches that nobody waits for."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from mm_orch.storage import fts5_index, sql_documents
from mm_orch.storage.fts5_index import Fts5Index
from mm_orch.storage.sql_documents import SqlDocuments
from mm_orch.storage.sql_sessions import SqlSessions
from mm_orch.storage.sqlite_database import SqliteDatabase
from tests.unit.storage.document_scene import (
    MODEL,
    as_vectors,
    store_texts,
    vector_of,
)
from tests.unit.storage.scene import FILE, OWNER, fill

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator
    from pathlib import Path

ENDLESS = (
    "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers)"
    " SELECT count(*) FROM numbers"
)
# A call that waits for the other fails the test after this, and the other is let go then.
MAX_WAIT_S = 10


class Held:
    """Holds up a thread until the test lets it go."""

    def __init__(self) -> None:
        self.is_reached = threading.Event()
        self.is_free = threading.Event()

    def __call__(self, *_: object) -> float:
        self.is_reached.set()
        self.is_free.wait()
        return 0.5


@asynccontextmanager
async def open_both(directory: Path) -> AsyncIterator[tuple[SqlSessions, SqlDocuments]]:
    database = SqliteDatabase(directory / FILE)
    sessions, documents = SqlSessions(database), SqlDocuments(database, Fts5Index())
    try:
        await fill(sessions, "s", 1)
        await store_texts(documents, OWNER, "a.md", ["heron"], as_vectors((1, 0)))
        yield sessions, documents
    finally:
        await database.close()


async def read_beside(sessions: SqlSessions, documents: SqlDocuments) -> tuple[int, bool]:
    """Return what a chat, and the routing of one, read of the store."""
    async with asyncio.timeout(MAX_WAIT_S):
        recalled = await sessions.recall(OWNER, "s", max_bytes=1000)
        has_documents = await documents.has_documents(OWNER)
    return recalled.num_turns, has_documents


async def test_sessions_are_read_and_written_while_documents_are_searched_by_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held()

    def hold(connection: sqlite3.Connection) -> None:
        connection.create_function("vec_distance_cosine", 2, held)

    monkeypatch.setattr(fts5_index, "ensure_cosine", hold)
    async with open_both(tmp_path) as (sessions, documents):
        search = asyncio.create_task(documents.search_vectors(OWNER, vector_of(1, 0), MODEL, 9))
        try:
            await asyncio.to_thread(held.is_reached.wait)

            assert await read_beside(sessions, documents) == (1, True)
            async with asyncio.timeout(MAX_WAIT_S):
                await sessions.append_turn(OWNER, "s", question="q", answer="a", is_new=False)
            assert await read_beside(sessions, documents) == (2, True)
            assert not search.done()
        finally:
            held.is_free.set()
        [found] = await search

    assert found.score == 0.5


async def test_sessions_are_read_and_documents_searched_while_an_import_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, insert = Held(), sql_documents.rows.insert

    def hold(*arguments: object) -> None:
        insert(*arguments)  # type: ignore[arg-type]  # as it was called
        held()

    async with open_both(tmp_path) as (sessions, documents):
        lines = [line async for line in documents.export(OWNER)]
        monkeypatch.setattr(sql_documents.rows, "insert", hold)
        writing = asyncio.create_task(documents.import_lines("name:bob", lines))
        try:
            await asyncio.to_thread(held.is_reached.wait)

            assert await read_beside(sessions, documents) == (1, True)
            async with asyncio.timeout(MAX_WAIT_S):
                found = await documents.search_words(OWNER, "heron", 9)
                # None of it is there before all of it is.
                assert not await documents.has_documents("name:bob")
            assert len(found) == 1
            assert not writing.done()
        finally:
            held.is_free.set()
        assert (await writing).num_added == 1
        assert await documents.has_documents("name:bob")


@pytest.mark.parametrize("is_long", [False, True])
async def test_a_search_ends_when_nobody_waits_for_it(tmp_path: Path, *, is_long: bool) -> None:
    database = SqliteDatabase(tmp_path / FILE)
    read = database.read_long if is_long else database.read
    begun = threading.Semaphore(0)

    def search(connection: sqlite3.Connection) -> object:
        begun.release()
        return connection.execute(ENDLESS).fetchone()

    # Enough to hold up every thread, and some that wait for one.
    searches = [asyncio.create_task(read(search)) for _ in range(4)]
    await asyncio.to_thread(begun.acquire)
    for one in searches:
        one.cancel()
    await asyncio.gather(*searches, return_exceptions=True)

    async with asyncio.timeout(MAX_WAIT_S):
        [count] = await read(lambda connection: connection.execute("SELECT 1").fetchone())
    assert count == 1
    assert database.failure is None
    await database.close()


async def test_a_search_ends_when_its_time_is_up(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / FILE)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await database.read_long(lambda connection: connection.execute(ENDLESS).fetchone())

    # It waits for every thread.
    async with asyncio.timeout(MAX_WAIT_S):
        await database.close()
    assert database.failure is None


async def test_all_threads_leave_a_file_that_another_took_the_place_of(tmp_path: Path) -> None:
    held = Held()
    async with open_both(tmp_path) as (sessions, documents):
        database = sessions._database
        busy = asyncio.create_task(database.read_long(held))
        await asyncio.to_thread(held.is_reached.wait)
        (tmp_path / FILE).unlink()
        waiting = asyncio.create_task(fill(sessions, "t", 1))
        held.is_free.set()
        await asyncio.gather(busy, waiting)

        assert [one.session_id for one in await sessions.list_sessions(OWNER, limit=9)] == ["t"]
        assert await documents.search_words(OWNER, "heron", 9) == ()
        assert await documents.list_documents(OWNER, limit=9) == ()

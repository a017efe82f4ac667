"""A store of sessions in a folder, or a database, of the test's own."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from mm_orch.storage.postgres_database import PostgresDatabase
from mm_orch.storage.sql_sessions import SqlSessions
from mm_orch.storage.sqlite_database import SqliteDatabase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mm_orch.storage.sessions import Session
    from mm_orch.storage.sql_documents import SqlDocuments

FILE = "sessions.sqlite3"
OWNER = "name:alice"


Place = Path | str
"""A folder for a file of SQLite's, or the URL of a PostgreSQL database."""


def make_database(place: Place, **options: Any) -> SqliteDatabase | PostgresDatabase:
    if isinstance(place, Path):
        return SqliteDatabase(place / FILE, **options)
    return PostgresDatabase(place, **options)


@asynccontextmanager
async def open_store(place: Place, **options: Any) -> AsyncIterator[SqlSessions]:
    database = make_database(place, **options)
    ticks = iter(range(1_000_000))
    try:
        yield SqlSessions(database, now=lambda: 1000.0 + next(ticks))
    finally:
        await database.close()


def forget_all(url: str) -> None:
    """Empty a database, sooner than another one could be made."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM muai.sessions; DELETE FROM muai.documents")


async def count_rows(store: SqlSessions | SqlDocuments, table: str) -> int:
    """Return how many rows are there, whoever's they are."""

    def count(connection: Any) -> int:
        [number] = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - the test's own
        return int(number)

    return await store._database.read(count)


async def fill(store: SqlSessions, session_id: str, num_turns: int, owner: str = OWNER) -> None:
    for number in range(num_turns):
        await store.append_turn(
            owner,
            session_id,
            question=f"question {number} of {session_id}",
            answer=f"answer {number}",
            is_new=number == 0,
        )


def texts_of(session: Session) -> list[tuple[str, str]]:
    return [(turn.user.content, turn.assistant.content) for turn in session.turns]

"""All that is kept in one database file: conversations and documents."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.storage.database import Database
from mm_orch.storage.sqlite_documents import SqliteDocuments
from mm_orch.storage.sqlite_sessions import SqliteSessions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Stores:
    """What is kept on the disk."""

    sessions: SqliteSessions
    documents: SqliteDocuments


@asynccontextmanager
async def open_stores(directory: Path) -> AsyncIterator[Stores]:
    """Keep things in a file of this folder, which is opened, or made, with the first call."""
    database = Database(directory / "sessions.sqlite3")
    try:
        yield Stores(SqliteSessions(database), SqliteDocuments(database))
    finally:
        await database.close()

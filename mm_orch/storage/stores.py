"""All that is kept: in files of this server, or in a database that several share."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.storage.fts5_index import Fts5Index
from mm_orch.storage.sql_documents import SqlDocuments
from mm_orch.storage.sql_sessions import SqlSessions
from mm_orch.storage.sqlite_database import SqliteDatabase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mm_orch.config import Config
    from mm_orch.storage.shared_state import SharedState


@dataclass(frozen=True, slots=True)
class Stores:
    """What is kept.

    Attributes:
        shared: what several servers know of each other; None where each is by itself.
    """

    sessions: SqlSessions
    documents: SqlDocuments
    shared: SharedState | None = None

    @property
    def failure(self) -> str | None:
        """Why nothing can be stored now, as far as the last calls have shown; else None."""
        # They have one file, or one database.
        return self.sessions.failure


@asynccontextmanager
async def open_stores(config: Config, *, is_server: bool) -> AsyncIterator[Stores]:
    """Keep things where the configuration says: a file is opened, or made, with the first call.

    Enter it outside of any group of tasks, which would hide why a database cannot be used.

    Args:
        config: of the database, and of the file's folder.
        is_server: the database must answer now, and is asked now and then how it is.

    Raises:
        StorageError: the database cannot be used: says which option names it, and why.
    """
    if config.storage.url is not None:
        # psycopg is wanted by those alone who have such a database.
        from mm_orch.storage.shared_state import open_shared_stores

        async with open_shared_stores(config.storage, is_server=is_server) as stores:
            yield Stores(*stores)
        return
    database = SqliteDatabase(config.system.data_directory / "sessions.sqlite3")
    try:
        yield Stores(SqlSessions(database), SqlDocuments(database, Fts5Index()))
    finally:
        await database.close()

"""What several servers share in one PostgreSQL database, and the task that watches over it."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mm_orch.core.background import start_loop
from mm_orch.core.errors import MuAIError, StorageError, StorageUnavailableError
from mm_orch.storage.sql_documents import SqlDocuments
from mm_orch.storage.sql_outcomes import SqlOutcomes
from mm_orch.storage.sql_sessions import SqlSessions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mm_orch.config.schema.storage import StorageSettings
    from mm_orch.storage.outcomes import OutcomeStore
    from mm_orch.storage.postgres_database import PostgresDatabase
    from mm_orch.storage.shared_buckets import SharedBuckets
    from mm_orch.storage.shared_tuning import SharedTuning
    from mm_orch.storage.shared_usage import SharedUsage

logger = logging.getLogger(__name__)

_WATCH_S = 5.0


@dataclass(frozen=True, slots=True)
class SharedState:
    """What servers know of each other beside sessions and documents.

    Attributes:
        outcomes: what the system remembers of itself.
        buckets: how much callers may still send.
        tuning: what worked at each level of load.
        usage: what callers have used.
    """

    outcomes: OutcomeStore
    buckets: SharedBuckets
    tuning: SharedTuning
    usage: SharedUsage


class SharedStores(NamedTuple):
    """All that is in the database."""

    sessions: SqlSessions
    documents: SqlDocuments
    shared: SharedState


@asynccontextmanager
async def open_shared_stores(
    settings: StorageSettings, *, is_server: bool
) -> AsyncIterator[SharedStores]:
    """Keep things in the database of ``storage.url``; as storage.stores.open_stores."""
    if importlib.util.find_spec("psycopg") is None:
        raise StorageError(
            "storage.url needs psycopg, which is not installed here.",
            remedy="Run: pip install 'muai-orchestration[postgres]'.",
        )
    database = _make_database(settings)
    try:
        stores = _make_stores(database)
        if not is_server:
            yield stores
            return
        await _check(database)
        watch = start_loop(_watch(stores.shared.buckets), "watch the database")
        try:
            yield stores
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
    finally:
        await database.close()


def _make_database(settings: StorageSettings) -> PostgresDatabase:
    from mm_orch.storage.postgres_database import PostgresDatabase

    if settings.url is None:
        raise ValueError("no database is configured")
    return PostgresDatabase(
        settings.url.get_secret_value(),
        max_connections=settings.max_connections,
        statement_timeout_s=settings.statement_timeout_s,
    )


def _make_stores(database: PostgresDatabase) -> SharedStores:
    from mm_orch.storage.shared_buckets import SharedBuckets
    from mm_orch.storage.shared_tuning import SharedTuning
    from mm_orch.storage.shared_usage import SharedUsage
    from mm_orch.storage.tsvector_index import TsvectorIndex

    return SharedStores(
        SqlSessions(database),
        SqlDocuments(database, TsvectorIndex()),
        SharedState(
            SqlOutcomes(database),
            SharedBuckets(database),
            SharedTuning(database),
            SharedUsage(database),
        ),
    )


async def _check(database: PostgresDatabase) -> None:
    """Connect, and bring the schema to the newest version."""
    try:
        await database.read(lambda connection: connection.execute("SELECT 1").fetchone())
    except StorageUnavailableError as error:
        # Whoever starts a server may know the machine's name; callers may not.
        reason = "; ".join(getattr(error, "__notes__", ())) or error.message
        raise StorageError(
            f"The database of storage.url cannot be reached: {reason.rstrip(' .?')}.",
            remedy="Start it, or correct the option; left out, the server keeps files of its own.",
        ) from None


async def _watch(buckets: SharedBuckets) -> None:
    """Drop what nobody needs, so that the database's failure is known, and its return, unasked."""
    while True:
        await asyncio.sleep(_WATCH_S)
        try:
            await buckets.forget()
        except MuAIError as error:
            # The database has noted it, for the log and for health.
            logger.debug("the database does not answer: %s", error)

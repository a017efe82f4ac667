"""A PostgreSQL database that several servers share; implements storage.sql.SqlDatabase.

Reads see one moment (REPEATABLE READ). Writes of one owner follow one another, whichever server
makes them: each takes the owner's advisory lock first, and finds all that was written before. So
two servers that add a turn to one session lose neither, and no bound is passed by two at once.
Others' writes go on beside them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import psycopg
from psycopg import errors

from mm_orch.core.errors import (
    MuAIError,
    StorageBusyError,
    StorageError,
    StorageUnavailableError,
)
from mm_orch.storage.failing import Failing
from mm_orch.storage.lanes import MAX_WAITING, RETRY_AFTER_S, Lane
from mm_orch.storage.postgres_connections import PostgresConnections
from mm_orch.storage.postgres_text import PostgresStatements

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.core.clock import Clock

T = TypeVar("T")

logger = logging.getLogger(__name__)

_CONTENT = "stored sessions and documents"
_MAX_CANCEL_S = 5.0
# A database that has become a standby takes no writes; another one does, where the name leads now.
_LOST = (psycopg.OperationalError, psycopg.InterfaceError, errors.ReadOnlySqlTransaction)


class PostgresDatabase:
    """Connected by the first call; where that fails, a later one tries again.

    What a write has written is on the database's disk when it returns, as far as the database's
    own ``synchronous_commit`` says so.

    Args:
        url: of the database, as libpq takes it; never shown.
        max_connections: at a time, of this process.
        statement_timeout_s: longest that one statement may take.
        max_waiting: calls of each kind that may wait; more are refused.
        retry_s: after a failure to connect, until it is tried again.
        clock: seconds.

    Raises:
        StorageError: the URL cannot be read.
    """

    def __init__(
        self,
        url: str,
        *,
        max_connections: int = 8,
        statement_timeout_s: float = 30.0,
        max_waiting: int = MAX_WAITING,
        retry_s: float = RETRY_AFTER_S,
        clock: Clock = time.monotonic,
    ) -> None:
        self._connections = PostgresConnections(
            url, statement_timeout_s=statement_timeout_s, retry_s=retry_s, clock=clock
        )
        self._statement_timeout_s = statement_timeout_s
        num_long = max(1, max_connections // 4)
        num_writes = max(1, (max_connections - num_long) // 2)
        num_reads = max(1, max_connections - num_long - num_writes)
        self._writes = Lane("writes", num_writes, _CONTENT, max_waiting)
        self._reads = Lane("reads", num_reads, _CONTENT, max_waiting)
        self._long_reads = Lane("long reads", num_long, _CONTENT, max_waiting)
        self._failing = Failing("the database of storage.url")

    @property
    def failure(self) -> str | None:
        """See SqlDatabase."""
        return self._failing.failure

    async def read(self, work: Callable[[PostgresStatements], T]) -> T:
        """See SqlDatabase."""
        return await self._read(self._reads, work)

    async def read_long(self, work: Callable[[PostgresStatements], T]) -> T:
        """See SqlDatabase."""
        return await self._read(self._long_reads, work)

    async def write(self, work: Callable[[PostgresStatements], T], *, owner: str = "") -> T:
        """See SqlDatabase."""
        return await self._writes.run(
            partial(self._perform, work, _Call(), partial(_begin_write, owner=owner), is_write=True)
        )

    async def update(self, work: Callable[[PostgresStatements], T]) -> T:
        """Run work that is one statement, atomic by itself: it waits for no owner's writes."""
        return await self._writes.run(
            partial(self._perform, work, _Call(), _begin_update, is_write=True)
        )

    async def close(self) -> None:
        """Finish what waits, and close all connections; nothing is asked afterwards."""
        await asyncio.to_thread(self._finish)

    def _finish(self) -> None:
        for lane in (self._reads, self._long_reads, self._writes):
            lane.finish()
        self._connections.close()

    async def _read(self, lane: Lane, work: Callable[[PostgresStatements], T]) -> T:
        call = _Call()
        try:
            return await lane.run(partial(self._perform, work, call, _begin_read, is_write=False))
        except asyncio.CancelledError:
            # It connects to the server once more, and waits for its answer.
            asyncio.get_running_loop().run_in_executor(None, call.end)
            raise

    def _perform(
        self,
        work: Callable[[PostgresStatements], T],
        call: _Call,
        begin: Callable[[psycopg.Connection], None],
        *,
        is_write: bool,
    ) -> T:
        try:
            with self._connections.transaction(begin) as connection:
                result = call.run(connection, lambda: work(PostgresStatements(connection)))
        except (StorageError, StorageUnavailableError) as error:
            self._failing.note(
                error.message, is_write=is_write, detail="; ".join(getattr(error, "__notes__", ()))
            )
            raise
        except psycopg.Error as error:
            if call.is_over:
                # Ended for its caller's sake; nobody is told.
                raise
            raise self._explain(error, is_write=is_write) from error
        self._failing.note_success(is_write=is_write)
        return result

    def _explain(self, error: psycopg.Error, *, is_write: bool) -> MuAIError:
        """Return the error to raise, which names no machine; the log does."""
        match error:
            case errors.LockNotAvailable() | errors.DeadlockDetected():
                return StorageBusyError(
                    f"Another server is writing the {_CONTENT}.", retry_after_s=RETRY_AFTER_S
                )
            case errors.QueryCanceled():
                return StorageBusyError(
                    "The database took longer for a statement than storage.statement_timeout_s,"
                    f" {self._statement_timeout_s:g} s.",
                    retry_after_s=RETRY_AFTER_S,
                )
            case _:
                pass
        told = error.diag.message_primary
        reason = "the connection was lost" if told is None else told
        message = f"The database of storage.url cannot be used: {reason}."
        self._failing.note(message, is_write=is_write)
        if isinstance(error, _LOST):
            return StorageUnavailableError(message, retry_after_s=RETRY_AFTER_S)
        return StorageError(message, remedy="See what the database's own log says of it.")


class _Call:
    """A call that may be ended, while it runs, by whoever waited for it."""

    def __init__(self) -> None:
        self.is_over = False
        self._lock = threading.Lock()
        self._connection: psycopg.Connection | None = None

    def run(self, connection: psycopg.Connection, work: Callable[[], T]) -> T:
        with self._lock:
            if self.is_over:
                raise errors.QueryCanceled
            self._connection = connection
        try:
            return work()
        finally:
            # INVARIANT: once this is through, the server is asked no more to end what it does here.
            with self._lock:
                self._connection = None

    def end(self) -> None:
        with self._lock:
            self.is_over = True
            if self._connection is None:
                return
            try:
                self._connection.cancel_safe(timeout=_MAX_CANCEL_S)
            except psycopg.Error as error:
                logger.debug("a search could not be ended: %s", error)


def _begin_read(connection: psycopg.Connection) -> None:
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")


def _begin_write(connection: psycopg.Connection, *, owner: str) -> None:
    # Each statement sees what was written before it, the first one all that was before the lock.
    connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (owner,))


def _begin_update(connection: psycopg.Connection) -> None:
    connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")

"""A SQLite database: one thread writes, others read beside it, and long reads have their own.

In WAL mode a read sees what was there when it began, whatever is written meanwhile. So nobody who
reads waits for a long write, nor whoever reads a little for somebody's search.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from mm_orch.core.errors import StorageBusyError, StorageError
from mm_orch.storage.connections import Connections
from mm_orch.storage.failing import Failing
from mm_orch.storage.lanes import MAX_WAITING, RETRY_AFTER_S, Lane
from mm_orch.storage.sqlite_schema import MIGRATIONS, migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from mm_orch.core.errors import MuAIError

T = TypeVar("T")

# Another process that has the same file writes for milliseconds.
_BUSY_TIMEOUT_S = 5.0
# The first with strict tables.
_OLDEST_SQLITE = (3, 37, 0)
_BUSY_CODES = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


# One for each core of a small machine.
_NUM_LONG_READS = 2
# Of SQLite's own machine, after which it is asked whether anybody still waits: well below 1 ms.
_STEPS_BETWEEN_LOOKS = 1000


class SqliteDatabase:
    """Opened by the first call; where that fails, the next one tries again.

    What a call has written is on the disk when it returns: each transaction is synced
    (``synchronous=FULL``), which costs far less than the answer whose turn it keeps. In WAL mode
    a process that dies, at any moment, leaves the transactions before it whole and its own undone.

    A file that was damaged, or that another took the place of, is opened anew by the next call.

    Args:
        path: of the file; its folder is made.
        migrations: the schema's versions.
        content: what is in it, in words.
        max_waiting: calls of each kind that may wait; more are refused.
    """

    def __init__(
        self,
        path: Path,
        *,
        migrations: Sequence[Sequence[str]] = MIGRATIONS,
        content: str = "stored sessions and documents",
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._path = path
        self._migrations = migrations
        self._content = content
        self._connections = Connections(path, self._connect)
        # SQLite has one writer at a time.
        self._writes = Lane("writes", 1, content, max_waiting)
        self._reads = Lane("reads", 1, content, max_waiting)
        self._long_reads = Lane("long reads", _NUM_LONG_READS, content, max_waiting)
        self._failing = Failing(str(path))

    @property
    def failure(self) -> str | None:
        """Why the last call failed; None where it did not, or none was made."""
        return self._failing.failure

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """See SqlDatabase."""
        return await self._run(self._reads, work)

    async def read_long(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """See SqlDatabase."""
        return await self._run(self._long_reads, work)

    async def write(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        owner: str = "",  # noqa: ARG002 - one thread, and one process at a time, writes for all
    ) -> T:
        """See SqlDatabase."""
        return await self._run(self._writes, work)

    async def close(self) -> None:
        """Finish what waits, and close the file; nothing is asked afterwards."""
        await asyncio.to_thread(self._finish)

    def _finish(self) -> None:
        for lane in (self._reads, self._long_reads, self._writes):
            lane.finish()
        self._connections.close()

    async def _run(self, lane: Lane, work: Callable[[sqlite3.Connection], T]) -> T:
        is_over = threading.Event()
        try:
            return await lane.run(
                partial(self._perform, work, is_over, is_writing=lane is self._writes)
            )
        finally:
            is_over.set()

    def _perform(
        self,
        work: Callable[[sqlite3.Connection], T],
        is_over: threading.Event,
        *,
        is_writing: bool,
    ) -> T:
        is_open = False
        try:
            self._check_sqlite()
            with self._connections.borrow() as connection:
                is_open = True
                with _transaction(connection, is_writing=is_writing):
                    result = work(connection) if is_writing else _read(connection, work, is_over)
        except StorageError as error:
            self._failing.note(error.message)
            raise
        except (sqlite3.Error, OSError) as error:
            if not is_writing and is_over.is_set():
                # Ended for its caller's sake; nobody is told.
                raise
            raise self._explain(error, is_write=is_writing and is_open) from error
        self._failing.note_success(is_write=is_writing)
        return result

    def _check_sqlite(self) -> None:
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise StorageError(
                f"This Python has SQLite {sqlite3.sqlite_version}; the {self._content} need 3.37 or"
                " newer.",
                remedy="Run the server with a Python that has a newer one.",
            )

    def _connect(self) -> sqlite3.Connection:
        # Without a mode of its own: transactions begin and end where we say so. Each thread has one
        # for itself, but whichever finds another file in its place closes those of all.
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            migrate(connection, self._migrations, content=self._content)
        except BaseException:
            connection.close()
            raise
        return connection

    def _explain(self, error: sqlite3.Error | OSError, *, is_write: bool) -> MuAIError:
        """Return the error to raise, which names no folder of the server; the log does."""
        # The lower byte is the kind, the upper one a closer description.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _BUSY_CODES:
            return StorageBusyError(
                f"Another process is writing the {self._content}.", retry_after_s=RETRY_AFTER_S
            )
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        message = f"{self._path.name} cannot be used: {reason}."
        self._failing.note(message, is_write=is_write)
        if code != sqlite3.SQLITE_FULL:
            self._connections.renew()
        return StorageError(
            message, remedy="See that the disk has room and the file is the server's own."
        )


@contextmanager
def _transaction(connection: sqlite3.Connection, *, is_writing: bool) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE" if is_writing else "BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _read(
    connection: sqlite3.Connection,
    work: Callable[[sqlite3.Connection], T],
    is_over: threading.Event,
) -> T:
    """Run the work until nobody waits for it any more."""
    connection.set_progress_handler(is_over.is_set, _STEPS_BETWEEN_LOOKS)
    try:
        return work(connection)
    finally:
        connection.set_progress_handler(None, 0)

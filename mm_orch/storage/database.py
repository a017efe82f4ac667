"""A SQLite database with one thread that owns it; everybody else asks that thread."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from mm_orch.core.errors import QueueFullError, StorageError
from mm_orch.storage.migrations import MIGRATIONS, migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

T = TypeVar("T")

_MAX_WAITING = 256
# Another process that has the same file writes for milliseconds.
_BUSY_TIMEOUT_S = 5.0
_RETRY_AFTER_S = 1.0
# Whoever may read the file reads everything that was said.
_MODE = 0o600


class Database:
    """Opened by the first call; where that fails, the next one tries again.

    What a call has written is on the disk when it returns: each transaction is synced
    (``synchronous=FULL``), which costs far less than the answer whose turn it keeps. In WAL mode
    a process that dies, at any moment, leaves the transactions before it whole and its own undone.

    Args:
        path: of the file; its folder is made.
        migrations: the schema's versions.
        max_waiting: calls that may wait; more are refused.
    """

    def __init__(
        self,
        path: Path,
        *,
        migrations: Sequence[Sequence[str]] = MIGRATIONS,
        max_waiting: int = _MAX_WAITING,
    ) -> None:
        self._path = path
        self._migrations = migrations
        self._max_waiting = max_waiting
        self._num_waiting = 0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="storage")
        self._connection: sqlite3.Connection | None = None

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run the work in the owning thread; a call that is cancelled may be done all the same.

        Raises:
            StorageError: the file cannot be opened, read or written.
            QueueFullError: too many calls wait.
        """
        if self._num_waiting >= self._max_waiting:
            raise QueueFullError(
                f"{self._num_waiting} calls wait for the stored sessions.",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._num_waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, self._perform, work)
        finally:
            self._num_waiting -= 1

    async def close(self) -> None:
        """Finish what waits, and close the file; nothing is asked afterwards."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close)
        self._executor.shutdown()

    def _perform(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._open()
            return work(self._connection)
        except (sqlite3.Error, OSError) as error:
            # Callers are told of it too, whom the server's folders do not concern.
            reason = error.strerror if isinstance(error, OSError) else error
            raise StorageError(
                f"{self._path.name} cannot be used: {reason}.",
                remedy="See that the disk has room and the file is the server's own.",
            ) from error

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch(_MODE)
        # Without a mode of its own: transactions begin and end where we say so.
        connection = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            migrate(connection, self._migrations)
        except BaseException:
            connection.close()
            raise
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextmanager
def transaction(connection: sqlite3.Connection, *, is_writing: bool = True) -> Iterator[None]:
    """Do all that is written in the context, or nothing of it; what is read is of one moment."""
    connection.execute("BEGIN IMMEDIATE" if is_writing else "BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")

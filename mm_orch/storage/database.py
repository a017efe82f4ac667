"""A SQLite database with one thread that owns it; everybody else asks that thread."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mm_orch.core.errors import QueueFullError, StorageBusyError, StorageError
from mm_orch.storage.migrations import MIGRATIONS, migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mm_orch.core.errors import MuAIError

T = TypeVar("T")

logger = logging.getLogger(__name__)

_MAX_WAITING = 256
# Another process that has the same file writes for milliseconds.
_BUSY_TIMEOUT_S = 5.0
_RETRY_AFTER_S = 1.0
# Whoever may read the file reads everything that was said, and all documents.
_MODE = 0o600
# The first with strict tables.
_OLDEST_SQLITE = (3, 37, 0)
_BUSY_CODES = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


@dataclass(frozen=True, slots=True)
class _Opened:
    connection: sqlite3.Connection
    file: tuple[int, int] | None
    log: tuple[int, int] | None


class Database:
    """Opened by the first call; where that fails, the next one tries again.

    What a call has written is on the disk when it returns: each transaction is synced
    (``synchronous=FULL``), which costs far less than the answer whose turn it keeps. In WAL mode
    a process that dies, at any moment, leaves the transactions before it whole and its own undone.

    A file that was damaged, or that another took the place of, is opened anew by the next call.

    Args:
        path: of the file; its folder is made.
        migrations: the schema's versions.
        content: what is in it, in words.
        max_waiting: calls that may wait; more are refused.
    """

    def __init__(
        self,
        path: Path,
        *,
        migrations: Sequence[Sequence[str]] = MIGRATIONS,
        content: str = "stored sessions and documents",
        max_waiting: int = _MAX_WAITING,
    ) -> None:
        self._path = path
        self._migrations = migrations
        self._content = content
        self._max_waiting = max_waiting
        self._num_waiting = 0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="storage")
        self._opened: _Opened | None = None
        self._failure: str | None = None
        self._is_failing_to_write = False

    @property
    def failure(self) -> str | None:
        """Why the last call failed; None where it did not, or none was made."""
        return self._failure

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run the work in the owning thread; all that it reads is of one moment.

        Raises:
            StorageError: the file cannot be opened or read.
            StorageBusyError: another process has it.
            QueueFullError: too many calls wait.
        """
        return await self._run(work, is_writing=False)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run the work in the owning thread; all that it writes is done, or nothing of it.

        A call that is cancelled may be done all the same. Raises as :meth:`read`.
        """
        return await self._run(work, is_writing=True)

    async def close(self) -> None:
        """Finish what waits, and close the file; nothing is asked afterwards."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close)
        self._executor.shutdown()

    async def _run(self, work: Callable[[sqlite3.Connection], T], *, is_writing: bool) -> T:
        if self._num_waiting >= self._max_waiting:
            raise QueueFullError(
                f"{self._num_waiting} calls wait for the {self._content}.",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._num_waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, self._perform, work, is_writing)
        finally:
            self._num_waiting -= 1

    def _perform(
        self,
        work: Callable[[sqlite3.Connection], T],
        is_writing: bool,  # noqa: FBT001 - an executor passes by position
    ) -> T:
        try:
            connection = self._connect()
            with _transaction(connection, is_writing=is_writing):
                result = work(connection)
        except StorageError as error:
            self._note_failure(error.message)
            raise
        except (sqlite3.Error, OSError) as error:
            raise self._explain(error, is_writing=is_writing) from error
        # What cannot be written can often be read.
        if self._failure is not None and (is_writing or not self._is_failing_to_write):
            logger.info("%s can be used again", self._path)
            self._failure, self._is_failing_to_write = None, False
        return result

    def _connect(self) -> sqlite3.Connection:
        if self._opened is not None and _find_identity(self._path) != self._opened.file:
            logger.warning("%s is another file now", self._path)
            self._leave(self._opened)
        if self._opened is None:
            self._opened = self._open()
        return self._opened.connection

    def _open(self) -> _Opened:
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise StorageError(
                f"This Python has SQLite {sqlite3.sqlite_version}; the {self._content} need 3.37 or"
                " newer.",
                remedy="Run the server with a Python that has a newer one.",
            )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch(_MODE)
        file = _find_identity(self._path)
        # Without a mode of its own: transactions begin and end where we say so.
        connection = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            migrate(connection, self._migrations, content=self._content)
        except BaseException:
            connection.close()
            raise
        return _Opened(connection, file, _find_identity(_log_of(self._path)))

    def _leave(self, opened: _Opened) -> None:
        """Close a file that no longer has its name."""
        self._close()
        # SQLite leaves the log of such a file, and would take it for that of the new one.
        log = _log_of(self._path)
        if opened.log is not None and _find_identity(log) == opened.log:
            log.unlink()

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.connection.close()
            self._opened = None

    def _explain(self, error: sqlite3.Error | OSError, *, is_writing: bool) -> MuAIError:
        """Return the error to raise, which names no folder of the server; the log does."""
        # The lower byte is the kind, the upper one a closer description.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _BUSY_CODES:
            return StorageBusyError(
                f"Another process is writing the {self._content}.", retry_after_s=_RETRY_AFTER_S
            )
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        message = f"{self._path.name} cannot be used: {reason}."
        self._is_failing_to_write |= is_writing and self._opened is not None
        self._note_failure(message)
        if code != sqlite3.SQLITE_FULL:
            self._close()
        return StorageError(
            message, remedy="See that the disk has room and the file is the server's own."
        )

    def _note_failure(self, message: str) -> None:
        if message != self._failure:
            logger.warning("%s: %s", self._path, message)
        self._failure = message


@contextmanager
def _transaction(connection: sqlite3.Connection, *, is_writing: bool) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE" if is_writing else "BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _log_of(path: Path) -> Path:
    return Path(f"{path}-wal")


def _find_identity(path: Path) -> tuple[int, int] | None:
    """Return what no other file has while this one is open; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino

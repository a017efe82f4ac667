"""The connections to one SQLite file, one for each thread: all of them to the same file."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Identity = tuple[int, int]

logger = logging.getLogger(__name__)

# Whoever may read the file reads everything that was said, and all documents.
_MODE = 0o600


class Connections:
    """Opened by the thread that first needs one, and closed all at once.

    SQLite finds the log and the locks of a file by its name. Where another file has that now,
    nobody may still have the old one open when somebody opens the new one.

    Args:
        path: of the file; it and its folder are made where they are not.
        connect: opens it, for any thread.
    """

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        self._path = path
        self._connect = connect
        self._lock = threading.Condition()
        self._by_thread: dict[int, sqlite3.Connection] = {}
        self._num_used = 0
        self._is_broken = False
        self._file: Identity | None = None
        self._log: Identity | None = None

    @contextmanager
    def borrow(self) -> Iterator[sqlite3.Connection]:
        """Give this thread its connection; nothing is closed before the context is left.

        Raises:
            sqlite3.Error: the file cannot be opened.
            OSError: the same.
            StorageError: as whoever connects raises it.
        """
        with self._lock:
            while self._by_thread and self._is_stale():
                if self._num_used:
                    # Whoever has one gives it back, and wakes this thread.
                    self._lock.wait()
                else:
                    self._leave()
            self._is_broken = False
            connection = self._by_thread.get(threading.get_ident()) or self._open()
            self._num_used += 1
        try:
            yield connection
        finally:
            with self._lock:
                self._num_used -= 1
                self._lock.notify_all()

    def renew(self) -> None:
        """Have everybody open the file anew, since something is wrong with it."""
        with self._lock:
            self._is_broken = True
            if not self._num_used:
                self.close()

    def close(self) -> None:
        """Close all of them; nobody has one borrowed."""
        for connection in self._by_thread.values():
            connection.close()
        self._by_thread.clear()

    def _is_stale(self) -> bool:
        return self._is_broken or _find_identity(self._path) != self._file

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch(_MODE)
        if not self._by_thread:
            # Before it is opened: a file that is replaced meanwhile is one to be left.
            self._file = _find_identity(self._path)
        connection = self._connect()
        if not self._by_thread:
            self._log = _find_identity(_log_of(self._path))
        self._by_thread[threading.get_ident()] = connection
        return connection

    def _leave(self) -> None:
        """Close a file that is broken, or no longer has its name."""
        self.close()
        if _find_identity(self._path) == self._file:
            return
        logger.warning("%s is another file now", self._path)
        # SQLite leaves the log of such a file, and would take it for that of the new one.
        log = _log_of(self._path)
        if self._log is not None and _find_identity(log) == self._log:
            log.unlink()


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _find_identity(path: Path) -> Identity | None:
    """Return what no other file has while this one is open; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino

"""The connections to one PostgreSQL database, one for each thread that works for it."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from mm_orch.core.errors import StorageError, StorageUnavailableError
from mm_orch.storage.lanes import RETRY_AFTER_S
from mm_orch.storage.postgres_schema import SCHEMA, migrate
from mm_orch.storage.postgres_text import adapt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mm_orch.core.clock import Clock

# Where the network swallows what is sent; whoever wants it otherwise says so in the URL.
_DEFAULTS: dict[str, Any] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 30,
    "application_name": "muai",
}
# As long as a write waits for another process's in a SQLite file.
LOCK_TIMEOUT_S = 5.0
# Between two statements of one transaction; the words of the largest document are cut out in less.
_MAX_IDLE_S = 60
_BUSY = (errors.LockNotAvailable, errors.DeadlockDetected)


class PostgresConnections:
    """Opened by the thread that first needs one; as many as there are threads.

    A pool would hand the same number out, wait for its own back-off before it connects again, and
    tell that nothing was free in place of why.

    Args:
        url: of the database; it is shown to nobody.
        statement_timeout_s: longest that one statement may take.
        retry_s: after a connection could not be made, all who want one in this time are told so.
        clock: seconds.
    """

    def __init__(
        self, url: str, *, statement_timeout_s: float, retry_s: float, clock: Clock = time.monotonic
    ) -> None:
        self._parameters = _read_url(url)
        self._statement_timeout_s = statement_timeout_s
        self._retry_s = retry_s
        self._clock = clock
        self._lock = threading.Lock()
        self._all: set[psycopg.Connection] = set()
        self._of_thread = threading.local()
        self._refused: tuple[float, str] | None = None

    @contextmanager
    def transaction(
        self, begin: Callable[[psycopg.Connection], None]
    ) -> Iterator[psycopg.Connection]:
        """Give this thread's connection inside a transaction, which ends with the context.

        Args:
            begin: begins it; again, on a new connection, where the old one is lost.

        Raises:
            StorageUnavailableError: no connection can be made.
            StorageError: what is in the database is not for this program.
            psycopg.Error: as whoever uses the connection, or ``begin``, raises it.
        """
        connection = self._begin(begin)
        try:
            yield connection
            connection.execute("COMMIT")
        except errors.ReadOnlySqlTransaction:
            # This is the standby now: the next connection may be to the one that writes.
            self.drop(connection)
            raise
        except BaseException:
            self._undo(connection)
            raise

    def close(self) -> None:
        """Close all of them; nobody uses one any more."""
        with self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()

    def _begin(self, begin: Callable[[psycopg.Connection], None]) -> psycopg.Connection:
        kept: psycopg.Connection | None = getattr(self._of_thread, "connection", None)
        if kept is not None:
            try:
                begin(kept)
            except _BUSY:
                self._undo(kept)
                raise
            except (psycopg.OperationalError, psycopg.InterfaceError):
                # The database was started anew, or the network has lost the connection.
                self.drop(kept)
            else:
                return kept
        fresh = self._connect()
        try:
            begin(fresh)
        except BaseException:
            self._undo(fresh)
            raise
        return fresh

    def _connect(self) -> psycopg.Connection:
        refused = self._refused
        if refused is not None and self._clock() < refused[0]:
            raise unreachable(refused[1])
        try:
            connection = psycopg.connect(**self._parameters, autocommit=True)
        except psycopg.Error as error:
            reason = self._without_secret("; ".join(map(str.strip, str(error).splitlines())))
            self._refused = (self._clock() + self._retry_s, reason)
            raise unreachable(reason) from None
        try:
            adapt(connection)
            self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        self._refused = None
        with self._lock:
            self._all.add(connection)
        self._of_thread.connection = connection
        return connection

    def _set_up(self, connection: psycopg.Connection) -> None:
        for name, value in (
            ("search_path", f"{SCHEMA}, pg_catalog"),
            # 0 would be for ever.
            ("statement_timeout", f"{max(1, round(self._statement_timeout_s * 1000))}ms"),
            ("lock_timeout", f"{max(1, round(LOCK_TIMEOUT_S * 1000))}ms"),
            # A server that hangs in the middle of a write holds its locks no longer.
            ("idle_in_transaction_session_timeout", f"{_MAX_IDLE_S}s"),
        ):
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        migrate(connection)

    def _undo(self, connection: psycopg.Connection) -> None:
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            # It is lost, and what it did with it.
            self.drop(connection)

    def drop(self, connection: psycopg.Connection) -> None:
        """Close a connection, which must be this thread's; the next call makes another one."""
        with self._lock:
            self._all.discard(connection)
        connection.close()
        self._of_thread.connection = None

    def _without_secret(self, text: str) -> str:
        password = self._parameters.get("password")
        return text.replace(str(password), "***") if password else text


def unreachable(reason: str) -> StorageUnavailableError:
    """Return the error of a database that nobody can connect to.

    Its words are for everybody; the reason, which names machines and users, stands in a note.
    """
    error = StorageUnavailableError(
        "The database of storage.url cannot be reached now; the server's log says why.",
        retry_after_s=RETRY_AFTER_S,
    )
    error.add_note(reason)
    return error


def _read_url(url: str) -> dict[str, Any]:
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # What libpq says of it may hold a part of the password.
        raise StorageError(
            "storage.url is no URL that PostgreSQL's library understands.",
            remedy="It looks like postgresql://USER:PASSWORD@HOST:5432/DATABASE, with signs other"
            " than letters and digits written as %XX.",
        ) from None
    return {**_DEFAULTS, **given}

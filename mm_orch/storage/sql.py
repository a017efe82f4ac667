"""What the stores need of a database: SQL in the words that SQLite and PostgreSQL share.

Values are written ``?`` or ``:name``. Where the two say things differently, as when they search
texts, each has its own statements (fts5_index, tsvector_index).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
Values = Sequence[Any] | Mapping[str, Any]
"""Of a statement: in their order, or by name."""


class Rows(Protocol):
    """What a statement gives, row by row."""

    def fetchone(self) -> Any:
        """Return the next row as a tuple; None where there is none."""

    def fetchall(self) -> list[Any]:
        """Return all that are left."""

    def __iter__(self) -> Iterator[Any]: ...


class SqlConnection(Protocol):
    """A connection inside a transaction; sqlite3's own is one."""

    def execute(self, statement: str, values: Any = (), /) -> Rows:
        """Run a statement with these :data:`Values`."""

    def executemany(self, statement: str, rows: Iterable[Any], /) -> object:
        """Run a statement with each of these :data:`Values`."""


class SqlDatabase(Protocol):
    """Where the stores' calls become transactions.

    Every call may raise StorageError, StorageBusyError, StorageUnavailableError, QueueFullError.
    """

    @property
    def failure(self) -> str | None:
        """Why the last call failed; None where it did not, or none was made."""

    async def read(self, work: Callable[[Any], T]) -> T:
        """Run work that takes milliseconds; all that it reads is of one moment.

        When the caller is gone, it ends, or is not begun.
        """

    async def read_long(self, work: Callable[[Any], T]) -> T:
        """Run work that may take long, beside others; else as :meth:`read`."""

    async def write(self, work: Callable[[Any], T], *, owner: str = "") -> T:
        """Run work that writes; all of it is done, or nothing.

        A call that is cancelled may be done all the same.

        Args:
            work: is given the connection.
            owner: whose things it changes. Such calls follow one another, in whichever process they
                are made: each finds what those before it have written.
        """

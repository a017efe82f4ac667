"""Puts the stores' statements and values into PostgreSQL's words, and back."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from psycopg.adapt import Loader
from psycopg.pq import Format
from psycopg.types.string import StrDumperUnknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import psycopg
    from psycopg.abc import Buffer

# Two colons, as in a::text, are PostgreSQL's own.
_MARK = re.compile(r"\?|(?<!:):([a-z_]+)")
# PostgreSQL's text has no NUL, which any question or document may have.
_ESCAPE = "\x10"
_ESCAPED = {_ESCAPE: f"{_ESCAPE}e", "\0": f"{_ESCAPE}0"}
_ESCAPE_TABLE = str.maketrans(_ESCAPED)
_RAW = {escaped: raw for raw, escaped in _ESCAPED.items()}
_FOUND = re.compile(f"{_ESCAPE}[e0]")
_NEEDS_ESCAPE = re.compile(f"[\0{_ESCAPE}]")


@functools.cache
def translate(statement: str) -> bytes:
    """Return a statement with psycopg's marks for its values; it has no percent signs."""
    return _MARK.sub(lambda found: f"%({found[1]})s" if found[1] else "%s", statement).encode()


def escape(text: str) -> str:
    """Return a text without NUL that :func:`unescape` makes this one of."""
    return text.translate(_ESCAPE_TABLE) if _NEEDS_ESCAPE.search(text) else text


def unescape(text: str) -> str:
    """Return the text that :func:`escape` was given."""
    return _FOUND.sub(lambda found: _RAW[found[0]], text) if _ESCAPE in text else text


class _TextDumper(StrDumperUnknown):
    def dump(self, obj: str) -> Buffer | None:
        return super().dump(escape(obj))


class _TextLoader(Loader):
    def load(self, data: Buffer) -> str:
        return unescape(bytes(data).decode())


class _BinaryTextLoader(_TextLoader):
    format = Format.BINARY


def adapt(connection: psycopg.Connection) -> None:
    """Have any text that is stored on this connection come back as it was."""
    connection.adapters.register_dumper(str, _TextDumper)
    for loader in (_TextLoader, _BinaryTextLoader):
        connection.adapters.register_loader("text", loader)


class PostgresStatements:
    """A connection to PostgreSQL inside a transaction; implements storage.sql.SqlConnection."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Any = (), /) -> psycopg.Cursor[Any]:
        """See SqlConnection."""
        return self._connection.execute(translate(statement), values, binary=True)

    def executemany(self, statement: str, rows: Iterable[Any], /) -> None:
        """See SqlConnection; without waiting for each answer before the next row is sent."""
        with self._connection.cursor() as cursor:
            cursor.executemany(translate(statement), rows)

    def stream(
        self, statement: str, values: Any, *, num_rows: int
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Yield what a statement gives in parts of so many rows: no more are held at a time."""
        with self._connection.cursor("stream", binary=True) as cursor:
            cursor.execute(translate(statement), values)
            while part := cursor.fetchmany(num_rows):
                yield part

"""Sessions as JSON lines: a head that names the format, then one session a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mm_orch.core.errors import SessionLimitError
from mm_orch.storage.line_format import LineFormat, as_line
from mm_orch.storage.sessions import MAX_SESSION_BYTES, Session, check_sizes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FORMAT = LineFormat("muai-sessions", 1, "session")
# The rest is room for what stands around the turns.
MAX_LINE_BYTES = MAX_SESSION_BYTES + 1024
# With the head.
MIN_IMPORT_BYTES = MAX_LINE_BYTES + 1024
"""Whoever takes imports of so many bytes can take every session that can be stored."""


class ReadSession(NamedTuple):
    """A session that may be stored, and the bytes of its turns."""

    session: Session
    num_bytes: int


def make_head() -> bytes:
    """Return the first line of an export."""
    return _FORMAT.make_head()


def make_line(session: Session) -> bytes:
    """Return the line of a session."""
    return as_line(session)


def read_lines(lines: Iterable[bytes]) -> Iterator[ReadSession]:
    """Yield the sessions of an export.

    Raises:
        InvalidValueError: the head is another format's, or a line is no session; says which.
        SessionLimitError: a text or a session is too long.
    """
    for number, session in _FORMAT.read(lines, Session, max_line_bytes=MAX_LINE_BYTES):
        yield _check(session, number)


def _check(session: Session, number: int) -> ReadSession:
    for turn in session.turns:
        check_sizes(turn.user.content, turn.assistant.content, f"line {number}")
    num_bytes = sum(turn.num_bytes for turn in session.turns)
    if num_bytes > MAX_SESSION_BYTES:
        raise SessionLimitError(
            f"The session of line {number} has {num_bytes} bytes; at most {MAX_SESSION_BYTES} are"
            " stored."
        )
    return ReadSession(session, num_bytes)

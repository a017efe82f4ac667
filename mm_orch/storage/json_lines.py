"""Sessions as JSON lines: a head that names the format, then one session a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from mm_orch.core.errors import InvalidValueError, SessionLimitError
from mm_orch.storage.sessions import MAX_SESSION_BYTES, Session, check_sizes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T", bound=msgspec.Struct)

_FORMAT = "muai-sessions"
_VERSION = 1
# The rest is room for what stands around the turns.
MAX_LINE_BYTES = MAX_SESSION_BYTES + 1024
# With the head.
MIN_IMPORT_BYTES = MAX_LINE_BYTES + 1024
"""Whoever takes imports of so many bytes can take every session that can be stored."""


class _Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str
    version: int


class ReadSession(NamedTuple):
    """A session that may be stored, and the bytes of its turns."""

    session: Session
    num_bytes: int


def make_head() -> bytes:
    """Return the first line of an export."""
    return _as_line(_Head(format=_FORMAT, version=_VERSION))


def make_line(session: Session) -> bytes:
    """Return the line of a session."""
    return _as_line(session)


def read_lines(lines: Iterable[bytes]) -> Iterator[ReadSession]:
    """Yield the sessions of an export.

    Raises:
        InvalidValueError: the head is another format's, or a line is no session; says which.
        SessionLimitError: a text or a session is too long.
    """
    has_head = False
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if len(line) > MAX_LINE_BYTES:
            raise InvalidValueError(
                f"Line {number} has {len(line)} bytes; at most {MAX_LINE_BYTES} are taken."
            )
        if has_head:
            yield _read_session(line, number)
        else:
            _check_head(line, number)
            has_head = True
    if not has_head:
        raise InvalidValueError("The import is empty; it must begin with the line of its format.")


def _check_head(line: bytes, number: int) -> None:
    head = _decode(line, _Head, f"Line {number} is no head of {_FORMAT}")
    if (head.format, head.version) != (_FORMAT, _VERSION):
        raise InvalidValueError(
            f"The import is {head.format} version {head.version}; this program takes {_FORMAT}"
            f" version {_VERSION}."
        )


def _read_session(line: bytes, number: int) -> ReadSession:
    session = _decode(line, Session, f"Line {number} is no session")
    for turn in session.turns:
        check_sizes(turn.user.content, turn.assistant.content, f"line {number}")
    num_bytes = sum(turn.num_bytes for turn in session.turns)
    if num_bytes > MAX_SESSION_BYTES:
        raise SessionLimitError(
            f"The session of line {number} has {num_bytes} bytes; at most {MAX_SESSION_BYTES} are"
            " stored."
        )
    return ReadSession(session, num_bytes)


def _decode(line: bytes, kind: type[T], problem: str) -> T:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidValueError(f"{problem}: {error}.") from error


def _as_line(content: msgspec.Struct) -> bytes:
    return msgspec.json.encode(content) + b"\n"

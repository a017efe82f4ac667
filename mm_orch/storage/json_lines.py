"""Sessions as JSON lines: a head that names the format, then one session a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mm_orch.core.errors import InvalidValueError
from mm_orch.storage.sessions import MAX_SESSION_BYTES, Session, check_sizes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FORMAT = "muai-sessions"
_VERSION = 1
# JSON spells a byte of text with up to six; the rest is room for the ids.
MAX_LINE_BYTES = 7 * MAX_SESSION_BYTES


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    format: str
    version: int


def make_head() -> bytes:
    """Return the first line of an export."""
    return _as_line(_Head(format=_FORMAT, version=_VERSION))


def make_line(session: Session) -> bytes:
    """Return the line of a session."""
    return _as_line(session)


def read_lines(lines: Iterable[bytes]) -> Iterator[Session]:
    """Yield the sessions of an export.

    Raises:
        InvalidValueError: the head is another format's, or a line is no session; says which.
        SessionLimitError: a text is too long.
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
            _check_head(line)
            has_head = True
    if not has_head:
        raise InvalidValueError("The import is empty; it must begin with the line of its format.")


def _check_head(line: bytes) -> None:
    try:
        head = msgspec.json.decode(line, type=_Head)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidValueError(f"Line 1 is no head of {_FORMAT}: {error}.") from error
    if (head.format, head.version) != (_FORMAT, _VERSION):
        raise InvalidValueError(
            f"The import is {head.format} version {head.version}; this program takes {_FORMAT}"
            f" version {_VERSION}."
        )


def _read_session(line: bytes, number: int) -> Session:
    try:
        session = msgspec.json.decode(line, type=Session)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidValueError(f"Line {number} is no session: {error}.") from error
    for turn in session.turns:
        check_sizes(turn.user.content, turn.assistant.content, f"line {number}")
    return session


def _as_line(content: msgspec.Struct) -> bytes:
    return msgspec.json.encode(content) + b"\n"

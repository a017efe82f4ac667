"""Sessions in a database; implements storage.sessions.SessionStore."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from mm_orch.core.errors import InvalidValueError, SessionLimitError, SessionNotFoundError
from mm_orch.storage.json_lines import make_head, make_line, read_lines
from mm_orch.storage.sessions import (
    MAX_SESSION_BYTES,
    MAX_SESSIONS,
    MAX_TURNS,
    Appended,
    ImportReport,
    Recalled,
    Session,
    SessionSummary,
    StoredMessage,
    Turn,
    check_sizes,
    new_message_id,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from mm_orch.storage.json_lines import ReadSession
    from mm_orch.storage.sql import SqlConnection, SqlDatabase


_OLDEST_FIRST = (
    "SELECT asked.message_id, asked.content, asked.created_at,"
    " told.message_id, told.content, told.created_at"
    " FROM messages AS asked JOIN messages AS told"
    " ON told.session = asked.session AND told.turn = asked.turn AND told.role = 'assistant'"
    " WHERE asked.session = ? AND asked.role = 'user' ORDER BY asked.turn"
)
_NEWEST_FIRST = f"{_OLDEST_FIRST} DESC"


class SqlSessions:
    """The sessions of all owners; every statement that reads or changes one names its owner.

    Args:
        database: of the newest version.
        now: seconds since 1970.
    """

    def __init__(self, database: SqlDatabase, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now

    @property
    def failure(self) -> str | None:
        """See SessionStore."""
        return self._database.failure

    async def recall(self, owner: str, session_id: str | None, *, max_bytes: int) -> Recalled:
        """See SessionStore."""
        return await self._database.read(
            partial(_recall, owner=owner, session_id=session_id, max_bytes=max_bytes)
        )

    async def append_turn(
        self, owner: str, session_id: str, *, question: str, answer: str, is_new: bool
    ) -> Appended:
        """See SessionStore."""
        check_sizes(question, answer, session_id)
        now_s = self._now()
        user, assistant = (
            StoredMessage(message_id=new_message_id(), content=text, created_at=now_s)
            for text in (question, answer)
        )
        turn = Turn(user=user, assistant=assistant)
        add = _begin if is_new else _go_on
        return await self._database.write(
            partial(add, owner=owner, session_id=session_id, turn=turn, now_s=now_s), owner=owner
        )

    async def read(self, owner: str, session_id: str) -> Session:
        """See SessionStore."""
        return await self._database.read(partial(_read, owner=owner, session_id=session_id))

    async def list_sessions(
        self, owner: str, *, limit: int, offset: int = 0
    ) -> tuple[SessionSummary, ...]:
        """See SessionStore."""
        return await self._database.read(partial(_list, owner=owner, limit=limit, offset=offset))

    async def delete(self, owner: str, session_id: str) -> None:
        """See SessionStore."""
        await self._database.write(
            partial(_delete, owner=owner, session_id=session_id), owner=owner
        )

    async def export(self, owner: str) -> AsyncIterator[bytes]:
        """See SessionStore."""
        # Before the first line, so that a file that cannot be read is told of in its place.
        summaries = await self.list_sessions(owner, limit=MAX_SESSIONS)
        yield make_head()
        for summary in summaries:
            try:
                session = await self.read(owner, summary.session_id)
            except SessionNotFoundError:
                # Deleted since it was listed.
                continue
            yield await asyncio.to_thread(make_line, session)

    async def import_lines(self, owner: str, lines: Iterable[bytes]) -> ImportReport:
        """See SessionStore."""
        # Elsewhere than in the threads that all writes wait for.
        sessions = await asyncio.to_thread(lambda: list(read_lines(lines)))
        return await self._database.write(
            partial(_import, owner=owner, sessions=sessions), owner=owner
        )


def _recall(
    connection: SqlConnection, *, owner: str, session_id: str | None, max_bytes: int
) -> Recalled:
    if session_id is None:
        _check_room(connection, owner)
        return Recalled()
    number, num_turns, num_bytes = _find(connection, owner, session_id)
    _check_length(session_id, num_turns + 1, num_bytes)
    turns: list[Turn] = []
    for turn in _turns_of(connection, number, newest_first=True):
        turns.append(turn)
        max_bytes -= _count_text_bytes(turn)
        if max_bytes <= 0:
            break
    return Recalled(num_turns=num_turns, turns=tuple(reversed(turns)))


def _begin(
    connection: SqlConnection, *, owner: str, session_id: str, turn: Turn, now_s: float
) -> Appended:
    session = Session(session_id=session_id, created_at=now_s, updated_at=now_s, turns=(turn,))
    _check_length(session_id, 1, turn.num_bytes)
    _check_room(connection, owner)
    _insert(connection, owner, session, turn.num_bytes)
    return Appended(session_id=session_id, num_turns=1, message_id=turn.assistant.message_id)


def _go_on(
    connection: SqlConnection, *, owner: str, session_id: str, turn: Turn, now_s: float
) -> Appended:
    number, num_turns, num_bytes = _find(connection, owner, session_id)
    num_bytes += turn.num_bytes
    _check_length(session_id, num_turns + 1, num_bytes)
    _insert_turns(connection, number, (turn,), first=num_turns)
    connection.execute(
        "UPDATE sessions SET num_turns = ?, num_bytes = ?, updated_at = ? WHERE number = ?",
        (num_turns + 1, num_bytes, now_s, number),
    )
    return Appended(
        session_id=session_id,
        num_turns=num_turns + 1,
        message_id=turn.assistant.message_id,
    )


def _read(connection: SqlConnection, *, owner: str, session_id: str) -> Session:
    number, _, _ = _find(connection, owner, session_id)
    created_at, updated_at = connection.execute(
        "SELECT created_at, updated_at FROM sessions WHERE number = ?", (number,)
    ).fetchone()
    turns = tuple(_turns_of(connection, number))
    return Session(session_id=session_id, created_at=created_at, updated_at=updated_at, turns=turns)


def _list(
    connection: SqlConnection, *, owner: str, limit: int, offset: int
) -> tuple[SessionSummary, ...]:
    rows = connection.execute(
        "SELECT session_id, num_turns, created_at, updated_at FROM sessions WHERE owner = ?"
        " ORDER BY updated_at DESC, number DESC LIMIT ? OFFSET ?",
        (owner, limit, offset),
    )
    return tuple(
        SessionSummary(
            session_id=session_id,
            num_turns=num_turns,
            created_at=created_at,
            updated_at=updated_at,
        )
        for session_id, num_turns, created_at, updated_at in rows
    )


def _delete(connection: SqlConnection, *, owner: str, session_id: str) -> None:
    number, _, _ = _find(connection, owner, session_id)
    # Its messages go with it, as the schema says.
    connection.execute("DELETE FROM sessions WHERE number = ?", (number,))


def _import(
    connection: SqlConnection, *, owner: str, sessions: Iterable[ReadSession]
) -> ImportReport:
    num_added = num_known = 0
    num_before = _count_sessions(connection, owner)
    for session, num_bytes in sessions:
        if _is_known(connection, owner, session):
            num_known += 1
            continue
        _check_count(num_before + num_added)
        _insert(connection, owner, session, num_bytes)
        num_added += 1
    return ImportReport(num_added=num_added, num_known=num_known)


def _is_known(connection: SqlConnection, owner: str, session: Session) -> bool:
    try:
        number, _, _ = _find(connection, owner, session.session_id)
    except SessionNotFoundError:
        return False
    if tuple(_turns_of(connection, number)) == session.turns:
        return True
    raise InvalidValueError(
        f"The session {session.session_id} is there already, with other turns; nothing was"
        " imported.",
        remedy="Delete one of the two.",
    )


def _insert(connection: SqlConnection, owner: str, session: Session, num_bytes: int) -> None:
    [[number]] = connection.execute(
        "INSERT INTO sessions (owner, session_id, created_at, updated_at, num_turns, num_bytes)"
        " VALUES (?, ?, ?, ?, ?, ?) RETURNING number",
        (
            owner,
            session.session_id,
            session.created_at,
            session.updated_at,
            len(session.turns),
            num_bytes,
        ),
    ).fetchall()
    _insert_turns(connection, number, session.turns)


def _insert_turns(
    connection: SqlConnection, number: int, turns: Iterable[Turn], *, first: int = 0
) -> None:
    connection.executemany(
        "INSERT INTO messages (session, turn, role, message_id, content, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            (number, position, role, message.message_id, message.content, message.created_at)
            for position, turn in enumerate(turns, start=first)
            for role, message in (("user", turn.user), ("assistant", turn.assistant))
        ],
    )


def _turns_of(
    connection: SqlConnection, number: int, *, newest_first: bool = False
) -> Iterator[Turn]:
    rows = connection.execute(_NEWEST_FIRST if newest_first else _OLDEST_FIRST, (number,))
    for row in rows:
        user, assistant = (
            StoredMessage(message_id=message_id, content=content, created_at=created_at)
            for message_id, content, created_at in (row[:3], row[3:])
        )
        yield Turn(user=user, assistant=assistant)


def _find(connection: SqlConnection, owner: str, session_id: str) -> tuple[int, int, int]:
    """Return a session's number, turns and bytes."""
    row = connection.execute(
        "SELECT number, num_turns, num_bytes FROM sessions WHERE owner = ? AND session_id = ?",
        (owner, session_id),
    ).fetchone()
    if row is None:
        raise SessionNotFoundError(f"There is no session {session_id!r}.", param="session_id")
    number, num_turns, num_bytes = row
    return number, num_turns, num_bytes


def _check_room(connection: SqlConnection, owner: str) -> None:
    _check_count(_count_sessions(connection, owner))


def _count_sessions(connection: SqlConnection, owner: str) -> int:
    [count] = connection.execute(
        "SELECT count(*) FROM sessions WHERE owner = ?", (owner,)
    ).fetchone()
    return int(count)


def _check_count(num_sessions: int) -> None:
    """Refuse one more session than so many."""
    if num_sessions >= MAX_SESSIONS:
        raise SessionLimitError(
            f"{num_sessions} sessions are stored, the most that one caller may have.",
            remedy="Delete some, or go on in one of them.",
        )


def _check_length(session_id: str, num_turns: int, num_bytes: int) -> None:
    if num_turns > MAX_TURNS or num_bytes > MAX_SESSION_BYTES:
        raise SessionLimitError(
            f"The session {session_id} would have {num_turns} turns and {num_bytes} bytes; at most"
            f" {MAX_TURNS} turns and {MAX_SESSION_BYTES} bytes are stored.",
            param="session_id",
            remedy="Begin another one.",
        )


def _count_text_bytes(turn: Turn) -> int:
    return len(turn.user.content.encode()) + len(turn.assistant.content.encode())

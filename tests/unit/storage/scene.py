"""A store of sessions in a folder of the test's own."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mm_orch.storage.database import Database
from mm_orch.storage.sqlite_sessions import SqliteSessions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mm_orch.storage.sessions import Session

FILE = "sessions.sqlite3"
OWNER = "name:alice"


@asynccontextmanager
async def open_store(directory: Path, **options: object) -> AsyncIterator[SqliteSessions]:
    database = Database(directory / FILE, **options)  # type: ignore[arg-type]  # by name
    ticks = iter(range(1_000_000))
    try:
        yield SqliteSessions(database, now=lambda: 1000.0 + next(ticks))
    finally:
        await database.close()


async def fill(store: SqliteSessions, session_id: str, num_turns: int, owner: str = OWNER) -> None:
    for number in range(num_turns):
        await store.append_turn(
            owner,
            session_id,
            question=f"question {number} of {session_id}",
            answer=f"answer {number}",
            is_new=number == 0,
        )


def texts_of(session: Session) -> list[tuple[str, str]]:
    return [(turn.user.content, turn.assistant.content) for turn in session.turns]

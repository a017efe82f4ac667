"""A process that stores turns is killed, again and again: what it acknowledged is there.

The small form kills ten processes, the long one two hundred, one after another on the same file.
"""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from mm_orch.storage.sessions import MAX_SESSIONS
from mm_orch.storage.sql_sessions import SqlSessions
from mm_orch.storage.sqlite_database import SqliteDatabase
from tests.killed_writers import write_and_kill
from tests.session_writer import OWNER

if TYPE_CHECKING:
    from pathlib import Path

SEED = 41
MAX_TURNS_BEFORE = 30
# About as long as storing one turn takes: the kill falls anywhere in that.
MAX_DELAY_S = 0.004


def write_turns(path: Path, run: int, random_: random.Random) -> dict[str, list[str]]:
    """Start a writer, kill it at a random moment; return what it acknowledged, by session."""
    lines = write_and_kill(
        "tests.session_writer",
        path,
        run,
        num_lines=random_.randint(1, MAX_TURNS_BEFORE),
        delay_s=random_.uniform(0, MAX_DELAY_S),
    )
    acknowledged: dict[str, list[str]] = {}
    for line in lines:
        session_id, position, question = line.split()
        turns = acknowledged.setdefault(session_id, [])
        assert len(turns) == int(position)
        turns.append(question)
    return acknowledged


async def check_whole(path: Path, acknowledged: dict[str, list[str]]) -> None:
    """Check that nothing acknowledged is lost, and nothing that is there is half written."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        halves = "SELECT session, turn FROM messages GROUP BY session, turn HAVING count(*) != 2"
        assert connection.execute(halves).fetchall() == []
    database = SqliteDatabase(path)
    store = SqlSessions(database)
    try:
        stored = {one.session_id for one in await store.list_sessions(OWNER, limit=MAX_SESSIONS)}
        assert acknowledged.keys() <= stored
        for session_id, questions in acknowledged.items():
            session = await store.read(OWNER, session_id)
            told = [turn.user.content for turn in session.turns]
            # At most one turn was stored and not yet told of.
            assert told[: len(questions)] == questions
            assert len(told) <= len(questions) + 1
            assert (await store.recall(OWNER, session_id, max_bytes=1)).num_turns == len(told)
            for turn in session.turns:
                assert set(turn.assistant.content.split(turn.user.content)) == {""}
    finally:
        await database.close()


@pytest.mark.parametrize(
    "num_kills", [10, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
async def test_no_turn_is_lost_once_acknowledged_and_none_is_half_written(
    tmp_path: Path, num_kills: int
) -> None:
    random_ = random.Random(SEED)  # noqa: S311 - not for secrets
    acknowledged: dict[str, list[str]] = {}

    for run in range(num_kills):
        told = write_turns(tmp_path / "sessions.sqlite3", run, random_)
        assert told
        acknowledged |= told
        await check_whole(tmp_path / "sessions.sqlite3", told)

    await check_whole(tmp_path / "sessions.sqlite3", acknowledged)

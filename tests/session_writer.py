"""A process that stores turns until it is killed, and says of each when it is stored.

``python -m tests.session_writer FILE RUN``: several sessions at once, so that at any moment some
turn is being written. Each line is what was acknowledged: session, position of the turn, question.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from pathlib import Path

from mm_orch.storage.sql_sessions import SqlSessions
from mm_orch.storage.sqlite_database import SqliteDatabase

OWNER = "name:writer"
_NUM_AT_ONCE = 4
_MAX_TURNS = 6
# Over several pages of the database, and within one.
_MAX_ANSWER_CHARS = 20_000


async def _write(store: SqlSessions, run: str, lane: int) -> None:
    random_ = random.Random(f"{run}/{lane}")  # noqa: S311 - not for secrets
    for number in itertools.count():
        session_id = f"run-{run}-{lane}-{number}"
        for position in range(random_.randint(1, _MAX_TURNS)):
            question = f"{session_id}:{position}"
            answer = question * random_.randint(1, _MAX_ANSWER_CHARS // len(question))
            await store.append_turn(
                OWNER, session_id, question=question, answer=answer, is_new=position == 0
            )
            print(session_id, position, question, flush=True)  # noqa: T201 - its one output


async def _write_for_ever(path: Path, run: str) -> None:
    store = SqlSessions(SqliteDatabase(path))
    async with asyncio.TaskGroup() as tasks:
        for lane in range(_NUM_AT_ONCE):
            tasks.create_task(_write(store, run, lane))


if __name__ == "__main__":
    asyncio.run(_write_for_ever(Path(sys.argv[1]), sys.argv[2]))

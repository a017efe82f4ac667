"""Mood, stage and outcomes in a SQLite database; implements storage.outcomes.OutcomeStore."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from mm_orch.storage.database import Database
from mm_orch.storage.outcomes import (
    MAX_KEYS,
    MAX_OUTCOMES_OF_KEY,
    Changes,
    Outcome,
    Remembered,
    StoredMood,
    StoredStage,
)

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

_VERSION_1 = (
    # One row each, which has the number 1.
    """
    CREATE TABLE mood (
        number INTEGER PRIMARY KEY CHECK (number = 1),
        valence REAL NOT NULL CHECK (valence BETWEEN -1 AND 1),
        arousal REAL NOT NULL CHECK (arousal BETWEEN -1 AND 1),
        at_s REAL NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE stage (
        number INTEGER PRIMARY KEY CHECK (number = 1),
        stage INTEGER NOT NULL CHECK (stage >= 0),
        num_runs INTEGER NOT NULL CHECK (num_runs >= 0),
        num_successes INTEGER NOT NULL CHECK (num_successes BETWEEN 0 AND num_runs)
    ) STRICT
    """,
    """
    CREATE TABLE outcomes (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL CHECK (kind IN ('run', 'generation')),
        request_id TEXT NOT NULL,
        caller TEXT NOT NULL,
        workflow TEXT NOT NULL,
        model TEXT NOT NULL,
        at_s REAL NOT NULL,
        is_success INTEGER NOT NULL CHECK (is_success IN (0, 1)),
        latency_s REAL NOT NULL,
        num_tokens INTEGER NOT NULL,
        confidence REAL,
        feedback REAL CHECK (feedback BETWEEN -1 AND 1)
    ) STRICT
    """,
    "CREATE INDEX outcomes_by_key ON outcomes (kind, workflow, model, number)",
    "CREATE INDEX outcomes_by_request ON outcomes (caller, request_id)",
)
# As JSON: it is read and written as a whole.
_VERSION_2 = (
    "ALTER TABLE outcomes ADD COLUMN belief_by_workflow TEXT NOT NULL DEFAULT '{}'"
    " CHECK (json_valid(belief_by_workflow))",
)
_INSERT = (
    "INSERT INTO outcomes (kind, request_id, caller, workflow, model, at_s, is_success, latency_s,"
    " num_tokens, confidence, feedback, belief_by_workflow)"
    " VALUES (:kind, :request_id, :caller, :workflow, :model, :at_s, :is_success, :latency_s,"
    " :num_tokens, :confidence, :feedback, :belief_by_workflow)"
)
_SELECT = (
    "SELECT kind, request_id, caller, workflow, model, at_s, is_success, latency_s, num_tokens,"
    " confidence, feedback, belief_by_workflow FROM outcomes ORDER BY number"
)
_KEEP_LAST = (
    "DELETE FROM outcomes WHERE kind = ? AND workflow = ? AND model = ? AND number <= ("
    "SELECT number FROM outcomes WHERE kind = ? AND workflow = ? AND model = ?"
    " ORDER BY number DESC LIMIT 1 OFFSET ?)"
)


def open_outcome_database(path: Path) -> Database:
    """Return the database; the first call opens or makes the file."""
    return Database(path, migrations=(_VERSION_1, _VERSION_2), content="outcomes")


class SqliteOutcomes:
    """All that is remembered, in one file.

    Args:
        database: as :func:`open_outcome_database` gives it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def failure(self) -> str | None:
        """See OutcomeStore."""
        return self._database.failure

    async def load(self) -> Remembered:
        """See OutcomeStore."""
        return await self._database.read(_load)

    async def keep(self, changes: Changes) -> None:
        """See OutcomeStore."""
        await self._database.write(partial(_keep, changes=changes))


def _load(connection: sqlite3.Connection) -> Remembered:
    mood = connection.execute("SELECT valence, arousal, at_s FROM mood").fetchone()
    stage = connection.execute("SELECT stage, num_runs, num_successes FROM stage").fetchone()
    rows = connection.execute(_SELECT)
    return Remembered(
        mood=None if mood is None else StoredMood(valence=mood[0], arousal=mood[1], at_s=mood[2]),
        stage=None
        if stage is None
        else StoredStage(number=stage[0], num_runs=stage[1], num_successes=stage[2]),
        outcomes=tuple(_read_outcome(row) for row in rows),
    )


def _read_outcome(row: tuple[Any, ...]) -> Outcome:
    kind, request_id, caller, workflow, model, at_s, is_success, *measures = row
    latency_s, num_tokens, confidence, feedback, beliefs = measures
    return Outcome(
        kind=kind,
        request_id=request_id,
        caller=caller,
        workflow=workflow,
        model=model,
        at_s=at_s,
        is_success=bool(is_success),
        latency_s=latency_s,
        num_tokens=num_tokens,
        confidence=confidence,
        feedback=feedback,
        belief_by_workflow=msgspec.json.decode(beliefs, type=dict[str, float]),
    )


def _as_row(outcome: Outcome) -> dict[str, Any]:
    beliefs = msgspec.json.encode(outcome.belief_by_workflow).decode()
    return msgspec.structs.asdict(outcome) | {"belief_by_workflow": beliefs}


def _keep(connection: sqlite3.Connection, *, changes: Changes) -> None:
    mood, stage = changes.mood, changes.stage
    connection.execute(
        "INSERT OR REPLACE INTO mood (number, valence, arousal, at_s) VALUES (1, ?, ?, ?)",
        (mood.valence, mood.arousal, mood.at_s),
    )
    # A stage that another process has reached stays reached.
    connection.execute(
        "INSERT INTO stage (number, stage, num_runs, num_successes) VALUES (1, ?, ?, ?)"
        " ON CONFLICT (number) DO UPDATE SET stage = excluded.stage,"
        " num_runs = excluded.num_runs, num_successes = excluded.num_successes"
        " WHERE excluded.stage >= stage.stage",
        (stage.number, stage.num_runs, stage.num_successes),
    )
    connection.executemany(_INSERT, map(_as_row, changes.outcomes))
    connection.executemany(
        "UPDATE outcomes SET feedback = ? WHERE caller = ? AND request_id = ?",
        [(score, *request) for request, score in changes.feedback.items()],
    )
    for key in sorted({(one.kind, one.workflow, one.model) for one in changes.outcomes}):
        connection.execute(_KEEP_LAST, (*key, *key, MAX_OUTCOMES_OF_KEY))
    # Keys are as many as workflows and models that ever were.
    connection.execute(
        "DELETE FROM outcomes WHERE number <= (SELECT number FROM outcomes"
        " ORDER BY number DESC LIMIT 1 OFFSET ?)",
        (MAX_KEYS * MAX_OUTCOMES_OF_KEY,),
    )

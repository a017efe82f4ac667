"""The schema of the SQLite file of outcomes, and how it is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.storage.sqlite_database import SqliteDatabase

if TYPE_CHECKING:
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


def open_outcome_database(path: Path) -> SqliteDatabase:
    """Return the database; the first call opens or makes the file."""
    return SqliteDatabase(path, migrations=(_VERSION_1, _VERSION_2), content="outcomes")

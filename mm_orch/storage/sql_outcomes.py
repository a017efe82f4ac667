"""Mood, stage and outcomes in a database; implements storage.outcomes.OutcomeStore."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

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
    from mm_orch.storage.sql import SqlConnection, SqlDatabase

# Writes of outcomes follow one another: the oldest are counted out.
_OWNER = "outcomes"
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
_RATE = "UPDATE outcomes SET feedback = ? WHERE caller = ? AND request_id = ?"
_KEEP_LAST = (
    "DELETE FROM outcomes WHERE kind = ? AND workflow = ? AND model = ? AND number <= ("
    "SELECT number FROM outcomes WHERE kind = ? AND workflow = ? AND model = ?"
    " ORDER BY number DESC LIMIT 1 OFFSET ?)"
)


class SqlOutcomes:
    """All that is remembered of one system, whichever of its servers saw it.

    Args:
        database: of the newest version.
    """

    def __init__(self, database: SqlDatabase) -> None:
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
        await self._database.write(partial(_keep, changes=changes), owner=_OWNER)

    async def rate(self, caller: str, request_id: str, score: float) -> bool:
        """See OutcomeStore."""

        def work(connection: SqlConnection) -> bool:
            rated = connection.execute(f"{_RATE} RETURNING number", (score, caller, request_id))
            return bool(rated.fetchall())

        return await self._database.write(work, owner=_OWNER)


def _load(connection: SqlConnection) -> Remembered:
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


def _keep(connection: SqlConnection, *, changes: Changes) -> None:
    mood, stage = changes.mood, changes.stage
    connection.execute(
        "INSERT INTO mood (number, valence, arousal, at_s) VALUES (1, ?, ?, ?)"
        " ON CONFLICT (number) DO UPDATE SET valence = excluded.valence,"
        " arousal = excluded.arousal, at_s = excluded.at_s",
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
        _RATE,
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

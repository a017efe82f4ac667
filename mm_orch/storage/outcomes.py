"""What is remembered of a request that was answered or failed: measures, and no word of it."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

Kind = Literal["run", "generation"]

MAX_OUTCOMES_OF_KEY = 256
"""Of one kind, workflow and model; the oldest leave."""
MAX_KEYS = 64
"""Kinds, workflows and models together; the one that was used last the longest ago leaves."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a run of a workflow, or one generation of a model, ended.

    Attributes:
        kind: a run has its generations beside it, with the same ``request_id``.
        request_id: of the request that it answered, or was a part of.
        caller: name of the key that asked.
        workflow: that ran; empty for a generation that belongs to none.
        model: that answered; of a run the last one, empty where none did.
        at_s: when it ended, seconds since 1970.
        is_success: it was answered, wholly or in part.
        latency_s: from its begin to its end.
        num_tokens: of prompts and answers.
        confidence: of the answer, 0 to 1; None where it was not measured.
        feedback: what the caller thought of it, -1 to 1; None where that was not said.
        belief_by_workflow: of a run whose workflow was chosen, what each of them was believed in by
            the query, rounded to hundredths; empty of all others.
    """

    kind: Kind
    request_id: str
    caller: str
    workflow: str
    model: str
    at_s: float
    is_success: bool
    latency_s: float
    num_tokens: int
    confidence: float | None = None
    feedback: float | None = None
    belief_by_workflow: dict[str, float] = {}


class StoredMood(msgspec.Struct, frozen=True, kw_only=True):
    """A mood and when it was so, seconds since 1970."""

    valence: float
    arousal: float
    at_s: float


class StoredStage(msgspec.Struct, frozen=True, kw_only=True):
    """A stage of development, and what has been seen since it was reached."""

    number: int
    num_runs: int
    num_successes: int


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """All that was kept; None where nothing was.

    Attributes:
        outcomes: the oldest first.
    """

    mood: StoredMood | None = None
    stage: StoredStage | None = None
    outcomes: tuple[Outcome, ...] = ()


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be kept: stored together or not at all.

    Attributes:
        outcomes: new ones, the oldest first.
        feedback: what callers thought, by (caller, request_id), of outcomes new or stored.
    """

    mood: StoredMood
    stage: StoredStage
    outcomes: tuple[Outcome, ...] = ()
    feedback: dict[tuple[str, str], float] = {}


class OutcomeStore(Protocol):
    """Keeps what the system remembers of itself.

    Every call may raise StorageError, StorageBusyError, StorageUnavailableError and QueueFullError,
    as sessions' do.
    """

    @property
    def failure(self) -> str | None:
        """Why nothing can be kept now, as far as the last calls have shown; else None."""

    async def load(self) -> Remembered:
        """Return all that was kept."""

    async def keep(self, changes: Changes) -> None:
        """Store changes; when this returns, they are on the disk."""

    async def rate(self, caller: str, request_id: str, score: float) -> bool:
        """Store what a caller thought of its request; say whether outcomes of it are stored."""

"""What the tuner tells of itself, in the shapes that the HTTP face answers with."""

from __future__ import annotations

from typing import Protocol

import msgspec

MAX_DECISIONS = 200
"""So many are kept, the newest."""


class TuningFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Means over the windows that a decision rests on; what was not measured is None."""

    num_windows: int
    tokens_per_second: float
    latency_p95_s: float | None
    time_to_first_token_p95_s: float | None
    requests_waiting: float
    requests_rejected: float
    step_s: float | None
    cache_hit_ratio: float | None


class TuningDecision(msgspec.Struct, frozen=True, kw_only=True):
    """One decision.

    Attributes:
        at: ISO 8601 in UTC.
        kind: try, recall, roll_back, guard, keep or rest; refused where it could not be done.
        parameter: the option's name; several where a remembered setting came back; or none.
        direction: up, down, or none where nothing changed.
        old_values: by key, of what changed.
        new_values: alike.
        rationale: why, in words.
        before: with the old values; None where nothing had been measured.
        after: with the new ones; a step of the guard's has them from the first window on that tells
            of it.
    """

    at: str
    kind: str
    parameter: str
    direction: str
    old_values: dict[str, int]
    new_values: dict[str, int]
    rationale: str
    before: TuningFigures | None
    after: TuningFigures | None


class TunerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is tuned and to what, and the last decisions, the newest first.

    Attributes:
        target_p95_ms: what p95 must keep; None for no target.
        window_seconds: from one reading and decision to the next.
        max_windows: most windows before and after a change that are compared.
        values: in force, by key.
        on_trial: those of the values that are only tried, each with the one to go back to.
        switched_off: keys that the configuration takes from the tuner.
        left_alone: keys that the running engine cannot change.
    """

    target_p95_ms: float | None
    window_seconds: int
    max_windows: int
    values: dict[str, int]
    on_trial: dict[str, int]
    switched_off: tuple[str, ...]
    left_alone: tuple[str, ...]
    decisions: tuple[TuningDecision, ...]


class TunerReports(Protocol):
    """Answers what the tuner did, at once and without waiting."""

    def report(self, max_decisions: int = MAX_DECISIONS) -> TunerReport:
        """Values in force and the last decisions, at most so many of them."""

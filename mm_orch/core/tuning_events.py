"""The facts that the tuner states; see ``core.events``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningDecided:
    """The tuner has decided something, and it is in force.

    Attributes:
        parameter: the option's name; several where a remembered setting came back; or none.
        direction: up, down, or none where nothing changes.
        is_rollback: whether it takes back what was tried.
    """

    parameter: str
    direction: str
    is_rollback: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardStepTold:
    """A window has told of a step that the tuner took to keep the target.

    Attributes:
        parameter: the option's name, or several.
        is_kept: whether p95 kept its target.
    """

    parameter: str
    is_kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedValuesRead:
    """What is in force of the options that have a gauge."""

    batch_size: int
    batch_timeout_ms: int
    cache_size_mb: int


TUNED_OPTIONS = (
    "max_batch_size",
    "max_batch_tokens",
    "batch_timeout_ms",
    "max_memory_mb",
    "queue_capacity",
)
"""What may be tuned, by the last part of its key."""

GUARDED_OPTIONS = ("max_batch_size", "queue_capacity", "several")
"""What a step to keep the target may change; several are both at once."""

TuningEvent = TuningDecided | GuardStepTold | TunedValuesRead

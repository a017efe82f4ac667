"""What the tuner decides, with its reasons: data alone."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.tuning.knobs import KNOBS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mm_orch.tuning.knobs import Setting

SEVERAL = "several"
"""Stands for the parameter where a whole remembered setting is put in force."""


class DecisionKind(enum.Enum):
    """What a decision does: keeping and resting change nothing."""

    TRY = "try"
    RECALL = "recall"
    ROLL_BACK = "roll_back"
    GUARD = "guard"
    KEEP = "keep"
    REST = "rest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Means over the windows that a decision rests on; what was not measured is None."""

    num_windows: int
    tokens_per_s: float
    latency_p95_s: float | None
    ttft_p95_s: float | None
    num_waiting: float
    num_rejected: float
    step_s: float | None
    cache_hit_ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision.

    Attributes:
        parameter: the option's name, or :data:`SEVERAL`.
        direction: up, down, or none where nothing changes.
        old: values before, by key; of what changes alone.
        new: values after; alike.
        rationale: why, in words.
        before: figures with the old values.
        after: figures with the new ones, where there are some already.
    """

    kind: DecisionKind
    parameter: str
    direction: str
    rationale: str
    old: Mapping[str, int] = field(default_factory=dict)
    new: Mapping[str, int] = field(default_factory=dict)
    before: Figures | None = None
    after: Figures | None = None

    @property
    def changes(self) -> Mapping[str, int]:
        """The values to put in force, by key."""
        is_change = self.kind not in {DecisionKind.KEEP, DecisionKind.REST}
        return self.new if is_change else {}


def name_change(old: Setting, new: Setting) -> tuple[str, str]:
    """Return the parameter and the direction of a change."""
    directions = {"up" if value > old[key] else "down" for key, value in new.items()}
    name = KNOBS[next(iter(new))].name if len(new) == 1 else SEVERAL
    return name, directions.pop() if len(directions) == 1 else "none"

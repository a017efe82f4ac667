"""The last decisions, as the HTTP face tells them; bounded."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mm_orch.core.tuning_report import TuningDecision, TuningFigures

if TYPE_CHECKING:
    from datetime import datetime

    from mm_orch.tuning.decisions import Decision, Figures

MAX_DECISIONS = 200


class DecisionHistory:
    """Keeps the last decisions."""

    def __init__(self) -> None:
        self._decisions: deque[TuningDecision] = deque(maxlen=MAX_DECISIONS)

    def add(self, decision: Decision, at: datetime, *, refusal: str = "") -> None:
        """Keep one; ``refusal`` says why it is not in force."""
        rationale = decision.rationale
        self._decisions.appendleft(
            TuningDecision(
                at=at.isoformat(timespec="seconds"),
                kind="refused" if refusal else decision.kind.value,
                parameter=decision.parameter,
                direction=decision.direction,
                old_values=dict(decision.old),
                new_values=dict(decision.new),
                rationale=f"{rationale}; left alone from now on: {refusal}"
                if refusal
                else rationale,
                before=_describe(decision.before),
                after=_describe(decision.after),
            )
        )

    def newest(self) -> tuple[TuningDecision, ...]:
        """Return them, the newest first."""
        return tuple(self._decisions)


def _describe(figures: Figures | None) -> TuningFigures | None:
    if figures is None:
        return None
    return TuningFigures(
        num_windows=figures.num_windows,
        tokens_per_second=figures.tokens_per_s,
        latency_p95_s=figures.latency_p95_s,
        time_to_first_token_p95_s=figures.ttft_p95_s,
        requests_waiting=figures.num_waiting,
        requests_rejected=figures.num_rejected,
        step_s=figures.step_s,
        cache_hit_ratio=figures.cache_hit_ratio,
    )

"""The last decisions, as the HTTP face tells them; bounded."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from mm_orch.core.tuning_report import MAX_DECISIONS, TuningDecision, TuningFigures

if TYPE_CHECKING:
    from datetime import datetime

    from mm_orch.tuning.decisions import Decision, Figures


@dataclass(slots=True)
class _Entry:
    decision: Decision
    at: datetime
    refusal: str


class DecisionHistory:
    """Keeps the last decisions."""

    def __init__(self) -> None:
        self._entries: deque[_Entry] = deque(maxlen=MAX_DECISIONS)

    def add(self, decision: Decision, at: datetime, *, refusal: str = "") -> None:
        """Keep one; ``refusal`` says why it is not in force."""
        self._entries.appendleft(_Entry(decision, at, refusal))

    def complete(self, decision: Decision, told: Decision) -> None:
        """Put what is told of a decision by now in its place, while that is still kept."""
        for entry in self._entries:
            if entry.decision is decision:
                entry.decision = told
                return

    def newest(self, max_decisions: int = MAX_DECISIONS) -> tuple[TuningDecision, ...]:
        """Return them, the newest first; at most so many."""
        return tuple(_tell(entry) for entry in islice(self._entries, max_decisions))


def _tell(entry: _Entry) -> TuningDecision:
    decision, refusal = entry.decision, entry.refusal
    rationale = decision.rationale
    return TuningDecision(
        at=entry.at.isoformat(timespec="seconds"),
        kind="refused" if refusal else decision.kind.value,
        parameter=decision.parameter,
        direction=decision.direction,
        old_values=dict(decision.old),
        new_values=dict(decision.new),
        rationale=f"{rationale}; left alone from now on: {refusal}" if refusal else rationale,
        before=_describe(decision.before),
        after=_describe(decision.after),
    )


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

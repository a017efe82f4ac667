"""What past outcomes say of workflows and models: recent ones count more than old ones."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from mm_orch.core.mind_report import OutcomeStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mm_orch.storage.outcomes import Outcome


class PastOutcomes(Protocol):
    """What routing reads; answers at once, from memory.

    Keys are there once they have an outcome.
    """

    def outcomes_by_workflow(self) -> Mapping[str, OutcomeStatistics]:
        """Return the statistics of each workflow, over whole runs."""

    def outcomes_by_model(self) -> Mapping[str, OutcomeStatistics]:
        """Return the statistics of each model, over single generations of any workflow or none."""


@dataclass(slots=True)
class _WeightedMean:
    total: float = 0.0
    weight: float = 0.0

    def add(self, value: float, weight: float) -> None:
        self.total += value * weight
        self.weight += weight

    def read(self) -> float | None:
        """Return the mean; None of nothing, or where all is too old to weigh anything."""
        return self.total / self.weight if self.weight > 0.0 else None


@dataclass(slots=True)
class _Sums:
    num_outcomes: int = 0
    success: _WeightedMean = field(default_factory=_WeightedMean)
    latency_s: _WeightedMean = field(default_factory=_WeightedMean)
    num_tokens: _WeightedMean = field(default_factory=_WeightedMean)
    confidence: _WeightedMean = field(default_factory=_WeightedMean)
    feedback: _WeightedMean = field(default_factory=_WeightedMean)

    def add(self, outcome: Outcome, weight: float) -> None:
        self.num_outcomes += 1
        self.success.add(outcome.is_success, weight)
        if outcome.is_success:
            self.latency_s.add(outcome.latency_s, weight)
            self.num_tokens.add(outcome.num_tokens, weight)
        if outcome.confidence is not None:
            self.confidence.add(outcome.confidence, weight)
        if outcome.feedback is not None:
            self.feedback.add(outcome.feedback, weight)

    def read(self) -> OutcomeStatistics:
        return OutcomeStatistics(
            num_outcomes=self.num_outcomes,
            weight=self.success.weight,
            success_ratio=self.success.read() or 0.0,
            latency_s=self.latency_s.read(),
            num_tokens=self.num_tokens.read(),
            confidence=self.confidence.read(),
            feedback=self.feedback.read(),
        )


def summarise(
    outcomes: Iterable[Outcome],
    *,
    key: Callable[[Outcome], str],
    now_s: float,
    half_life_s: float,
) -> dict[str, OutcomeStatistics]:
    """Return the statistics by key, without those whose key is empty.

    Args:
        outcomes: in any order.
        key: what they are grouped by.
        now_s: seconds since 1970; an outcome of later weighs as one of now.
        half_life_s: an outcome this old weighs half.
    """
    sums_by_key: defaultdict[str, _Sums] = defaultdict(_Sums)
    for one in outcomes:
        if name := key(one):
            sums_by_key[name].add(one, 0.5 ** (max(0.0, now_s - one.at_s) / half_life_s))
    return {name: sums.read() for name, sums in sorted(sums_by_key.items())}

"""What past outcomes say of workflows and models: recent ones count more than old ones."""

from __future__ import annotations

from collections import defaultdict
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
    weighed_by_key: defaultdict[str, list[tuple[Outcome, float]]] = defaultdict(list)
    for one in outcomes:
        if name := key(one):
            age_s = max(0.0, now_s - one.at_s)
            weighed_by_key[name].append((one, 0.5 ** (age_s / half_life_s)))
    return {name: _summarise_one(weighed) for name, weighed in sorted(weighed_by_key.items())}


def _summarise_one(weighed: list[tuple[Outcome, float]]) -> OutcomeStatistics:
    def mean_of(read: Callable[[Outcome], float | None]) -> float | None:
        return _mean((value, weight) for one, weight in weighed if (value := read(one)) is not None)

    return OutcomeStatistics(
        num_outcomes=len(weighed),
        weight=sum(weight for _, weight in weighed),
        success_ratio=mean_of(lambda one: float(one.is_success)) or 0.0,
        latency_s=mean_of(lambda one: one.latency_s if one.is_success else None),
        num_tokens=mean_of(lambda one: one.num_tokens if one.is_success else None),
        confidence=mean_of(lambda one: one.confidence),
        feedback=mean_of(lambda one: one.feedback),
    )


def _mean(weighed: Iterable[tuple[float, float]]) -> float | None:
    """Return the weighted mean; None of nothing, or where all are too old to weigh anything."""
    total = weight_sum = 0.0
    for value, weight in weighed:
        total += value * weight
        weight_sum += weight
    return total / weight_sum if weight_sum > 0.0 else None

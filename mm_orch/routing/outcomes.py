"""What past outcomes change about a choice: how far a workflow or a model is trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mm_orch.core.mind_report import OutcomeStatistics

LEAST_TRUST = 0.5
"""However badly something did, so much of its share stays: it can earn more again."""
# So many good outcomes are taken for granted: a first failure says little.
_PRIOR_WEIGHT = 10.0
# Of an answer that everybody disliked, though nothing failed, so much counts as bad.
_DISLIKE = 0.5

Name = TypeVar("Name", bound=str)


class NoOutcomes:
    """What is remembered where nothing is; implements consciousness.PastOutcomes."""

    def outcomes_by_workflow(self) -> Mapping[str, OutcomeStatistics]:
        """Return none."""
        return {}

    def outcomes_by_model(self) -> Mapping[str, OutcomeStatistics]:
        """Return none."""
        return {}


def trust(past: OutcomeStatistics | None) -> float:
    """Return what a share is multiplied by, from LEAST_TRUST to 1; 1 without any outcome.

    The smoothed ratio of good outcomes to all: it falls with every failure and rises with every
    success, and neither ever does more than half.
    """
    if past is None or past.weight <= 0.0:
        return 1.0
    dislike = max(0.0, -(past.feedback or 0.0))
    good = past.weight * past.success_ratio * (1.0 - _DISLIKE * dislike)
    ratio = (_PRIOR_WEIGHT + good) / (_PRIOR_WEIGHT + past.weight)
    return LEAST_TRUST + (1.0 - LEAST_TRUST) * ratio


def weigh_outcomes(
    share_by_name: Mapping[Name, float], past_by_name: Mapping[str, OutcomeStatistics]
) -> dict[Name, float]:
    """Return the shares as past outcomes change them; their sum stays what it was."""
    weighed = {name: share * trust(past_by_name.get(name)) for name, share in share_by_name.items()}
    total, before = sum(weighed.values()), sum(share_by_name.values())
    if total <= 0.0:
        return dict(share_by_name)
    return {name: share * before / total for name, share in weighed.items()}

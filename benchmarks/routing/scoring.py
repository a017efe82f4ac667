"""Shares of right choices with their intervals, by class and by language."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.routing.route import WORKFLOWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.routing.route import Workflow

    # Language, label, what was chosen.
    Choice = tuple[str, Workflow, Workflow]

# The normal distribution's 97.5th percentile: 95% lie between it and its negative.
_Z = 1.959964


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of right ones and its 95% interval."""

    share: float
    low: float
    high: float

    @property
    def rounded(self) -> list[float]:
        """Return share, low and high as results keep them."""
        return [round(value, 3) for value in (self.share, self.low, self.high)]


def wilson(num_right: int, num_all: int) -> Rate:
    """Return a share with Wilson's score interval (Wilson 1927, JASA 22).

    Raises:
        ValueError: there are none at all, or more right ones than there are.
    """
    if not 0 <= num_right <= num_all or num_all == 0:
        raise ValueError(f"{num_right} of {num_all} is no share.")
    share = num_right / num_all
    spread = _Z * _Z / num_all
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(share * (1 - share) / num_all + spread / (4 * num_all)) / (1 + spread)
    return Rate(share, max(0.0, middle - half), min(1.0, middle + half))


def rate_right(choices: Sequence[Choice]) -> Rate:
    """Return the share of right choices."""
    return wilson(sum(label == chosen for _, label, chosen in choices), len(choices))


def rate_by_language(choices: Sequence[Choice]) -> dict[str, list[float]]:
    """Return share, low and high for each language there is."""
    languages = sorted({language for language, _, _ in choices})
    return {
        language: rate_right([one for one in choices if one[0] == language]).rounded
        for language in languages
    }


def per_class(choices: Sequence[Choice]) -> list[dict[str, object]]:
    """Return precision, recall with its interval and F1 of each class that has queries."""
    rows: list[dict[str, object]] = []
    for workflow in WORKFLOWS:
        num_labelled = sum(label == workflow for _, label, _ in choices)
        num_chosen = sum(chosen == workflow for _, _, chosen in choices)
        num_right = sum(label == chosen == workflow for _, label, chosen in choices)
        if num_labelled:
            recall, low, high = wilson(num_right, num_labelled).rounded
            precision = num_right / num_chosen if num_chosen else 0.0
            rows.append(
                {
                    "class": workflow,
                    "queries": num_labelled,
                    "precision": round(precision, 3),
                    "recall": recall,
                    "interval": f"{low:g} to {high:g}",
                    "f1": round(2 * num_right / (num_labelled + num_chosen), 3),
                }
            )
    return rows


def confusion(choices: Sequence[Choice]) -> dict[str, dict[str, int]]:
    """Return by label how often each workflow was chosen."""
    return {
        label: {
            workflow: sum(one[1:] == (label, workflow) for one in choices) for workflow in WORKFLOWS
        }
        for label in WORKFLOWS
    }

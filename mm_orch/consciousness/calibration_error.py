"""How far confidence is from what turned out right: calibration error, Brier score, their table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NUM_BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Answers of about the same confidence.

    Attributes:
        low: of their confidence; the bin ends where the next begins.
        num_answers: at least 1.
        confidence: their mean.
        accuracy: the share of them that is right.
    """

    low: float
    num_answers: int
    confidence: float
    accuracy: float


def make_reliability_table(
    confidences: Sequence[float], outcomes: Sequence[bool], num_bins: int = NUM_BINS
) -> list[Bin]:
    """Return the bins that hold anything, of equal width, the least confident first.

    Args:
        confidences: 0 to 1.
        outcomes: whether each answer was right.
        num_bins: of equal width between 0 and 1.

    Raises:
        ValueError: there are none, or not as many of both.
    """
    values, rights = _as_arrays(confidences, outcomes)
    places = np.minimum((values * num_bins).astype(int), num_bins - 1)
    return [
        Bin(
            low=place / num_bins,
            num_answers=int(inside.sum()),
            confidence=float(values[inside].mean()),
            accuracy=float(rights[inside].mean()),
        )
        for place in range(num_bins)
        if (inside := places == place).any()
    ]


def expected_calibration_error(
    confidences: Sequence[float], outcomes: Sequence[bool], num_bins: int = NUM_BINS
) -> float:
    """Return the mean distance between confidence and accuracy over bins of equal width.

    Each bin counts with its answers (Naeini et al. 2015, AAAI 29; Guo et al. 2017,
    arXiv:1706.04599). 0 is the best; of few answers it is greater than 0 by chance.

    Raises:
        ValueError: as :func:`make_reliability_table`.
    """
    table = make_reliability_table(confidences, outcomes, num_bins)
    gaps = [one.num_answers * abs(one.confidence - one.accuracy) for one in table]
    return sum(gaps) / len(confidences)


def brier_score(confidences: Sequence[float], outcomes: Sequence[bool]) -> float:
    """Return the mean squared distance of confidence from outcome (Brier 1950); 0 is the best.

    Raises:
        ValueError: as :func:`make_reliability_table`.
    """
    values, rights = _as_arrays(confidences, outcomes)
    return float(((values - rights) ** 2).mean())


def rank_quality(confidences: Sequence[float], outcomes: Sequence[bool]) -> float:
    """Return how often a right answer is more confident than a wrong one; 0.5 tells nothing.

    The area under the ROC curve, by ranks (Mann and Whitney 1947); equals count half.

    Raises:
        ValueError: as :func:`make_reliability_table`, or all answers are right, or all are wrong.
    """
    values, rights = _as_arrays(confidences, outcomes)
    right, wrong = values[rights > 0], values[rights == 0]
    if not right.size or not wrong.size:
        raise ValueError("Right and wrong answers are needed to tell them apart.")
    difference = right[:, None] - wrong[None, :]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def _as_arrays(
    confidences: Sequence[float], outcomes: Sequence[bool]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not confidences or len(confidences) != len(outcomes):
        raise ValueError(
            f"{len(confidences)} confidences and {len(outcomes)} outcomes: as many of both are"
            " needed, and at least one."
        )
    return np.asarray(confidences, dtype=float), np.asarray(outcomes, dtype=float)

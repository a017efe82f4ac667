"""How sure an answer is: figures of its tokens' probabilities, and what they are told as."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Servers write minus infinity as a large number, such as OpenAI's -9999.
_LEAST_LOGPROB = -100.0
_RUN_TOKENS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Confidence:
    """How sure an answer is.

    Attributes:
        value: 0 to 1; where it is calibrated, the share of such answers that were right.
        is_calibrated: it was fitted to answers of this model that are known to be right or wrong.
        is_unsure: it is below what the operator calls unsure.
    """

    value: float
    is_calibrated: bool
    is_unsure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFigures:
    """What the log probabilities of an answer's tokens come to; natural logarithms, at most 0.

    The mean is the logarithm of the length-normalised probability of the sequence (Malinin and
    Gales 2021, arXiv:2002.07650); the least and the mean are what tells invented statements best
    of such figures (Manakul et al. 2023, arXiv:2303.08896).

    Attributes:
        num_tokens: at least 1.
        mean: of all tokens.
        least: of the least likely one.
        total: of the whole sequence.
    """

    num_tokens: int
    mean: float
    least: float
    total: float

    @property
    def normalised_probability(self) -> float:
        """The geometric mean of the tokens' probabilities."""
        return math.exp(self.mean)

    @property
    def run_probability(self) -> float:
        """The probability of eight tokens that are as likely as the mean.

        It tells the nearly certain apart, where right answers are, and takes all others for alike.
        """
        return math.exp(_RUN_TOKENS * self.mean)

    @property
    def least_probability(self) -> float:
        """The probability of the least likely token."""
        return math.exp(self.least)


def measure_tokens(logprobs: Sequence[float]) -> TokenFigures | None:
    """Return the figures of an answer's tokens, or None where there are none.

    Args:
        logprobs: natural logarithms of probabilities; what is none counts as the nearest that is.
    """
    if not logprobs:
        return None
    bounded = [_bound(one) for one in logprobs]
    total = math.fsum(bounded)
    return TokenFigures(
        num_tokens=len(bounded),
        mean=total / len(bounded),
        least=min(bounded),
        total=total,
    )


def weigh_votes(logprobs_by_answer: Sequence[Sequence[float]]) -> list[float] | None:
    """Return what each of several answers counts for, or None where nothing is known of any.

    An answer counts with the geometric mean of its tokens' probabilities, as in confidence-informed
    self-consistency (Taubenfeld et al. 2025, arXiv:2502.06233); one of which nothing is known while
    it is of others, such as an empty one, counts for nothing.

    Args:
        logprobs_by_answer: natural logarithms of the probabilities of each answer's tokens.
    """
    measured = [measure_tokens(one) for one in logprobs_by_answer]
    if not any(measured):
        return None
    return [0.0 if one is None else one.normalised_probability for one in measured]


def _bound(logprob: float) -> float:
    return _LEAST_LOGPROB if math.isnan(logprob) else min(0.0, max(_LEAST_LOGPROB, logprob))

"""Makes of an answer's figures the share of such answers that were right, as it was measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mm_orch.consciousness.agreement import Vote
    from mm_orch.consciousness.confidence import TokenFigures

FORMAT = 1
_ANSWER_FIGURES = ("mean", "least", "total", "run_probability", "least_probability")
_VOTE_FIGURES = ("share", "is_first", "first_score")


class Curve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A logistic curve over a few figures: Platt scaling (Platt 1999) with more than one score.

    Attributes:
        weights: by the name of the figure.
        bias: added to their weighted sum.
        num_examples: answers that it was fitted to.
    """

    weights: dict[str, float]
    bias: float
    num_examples: int

    def apply(self, figures: Mapping[str, float]) -> float:
        """Return a probability, 0 to 1.

        Raises:
            KeyError: a figure is missing.
        """
        return to_share(
            self.bias + math.fsum(weight * figures[name] for name, weight in self.weights.items())
        )


class ModelCalibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was fitted for one model.

    Attributes:
        format: of the file; FORMAT.
        source: of the model, as the configuration names it; whatever has another is another model.
        questions_digest: of the questions with known answers that it was fitted to.
        max_tokens: of the longest answer that it was fitted to; of longer ones it says nothing.
        num_votes: answers to a question that the vote was fitted to; of others it says nothing.
        answer: of one answer, over the figures of its tokens.
        vote: of what several answers come to, the first one among them.
    """

    format: int
    source: str
    questions_digest: str
    max_tokens: int
    num_votes: int
    answer: Curve
    vote: Curve


def answer_figures(tokens: TokenFigures) -> dict[str, float]:
    """Return what may count for the confidence of one answer, by name."""
    return {name: float(getattr(tokens, name)) for name in _ANSWER_FIGURES}


def vote_figures(vote: Vote, first: float) -> dict[str, float]:
    """Return what may count for the confidence of the winner of a vote, by name.

    Args:
        vote: in which the first answer's place is 0.
        first: how sure that one was, 0 to 1.
    """
    is_first = float(vote.winner == 0)
    return dict(zip(_VOTE_FIGURES, (vote.share, is_first, to_score(first)), strict=True))


def to_share(score: float) -> float:
    """Return the logistic function of a score, whatever its size."""
    if score >= 0:
        return 1 / (1 + math.exp(-score))
    power = math.exp(score)
    return power / (1 + power)


def to_score(share: float) -> float:
    """Return the score of a share, bounded so that neither end is infinite."""
    bounded = min(1 - 1e-6, max(1e-6, share))
    return math.log(bounded / (1 - bounded))


def read_calibration(data: bytes) -> ModelCalibration:
    """Return what a file holds.

    Raises:
        ValueError: it is damaged, of another format, or names figures that nothing measures.
    """
    try:
        read = msgspec.json.decode(data, type=ModelCalibration)
    except msgspec.DecodeError as error:
        raise ValueError(f"This is no calibration: {error}") from error
    if read.format != FORMAT:
        raise ValueError(f"The calibration has format {read.format}; {FORMAT} can be read.")
    for curve, known in ((read.answer, _ANSWER_FIGURES), (read.vote, _VOTE_FIGURES)):
        unknown = sorted(set(curve.weights) - set(known))
        if unknown:
            raise ValueError(
                f"The calibration weighs {', '.join(unknown)}; known are {', '.join(known)}."
            )
    return read

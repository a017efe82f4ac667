"""How far several answers to one question agree, and which of them most others are like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.consciousness.short_answers import find_gist

if TYPE_CHECKING:
    from collections.abc import Sequence

# Up to so many words an answer is a name or a number: nearly the same is something else.
_MAX_SHORT_WORDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """What several answers come to.

    Attributes:
        winner: place of the answer that stands for most.
        share: of the weight that agrees with it, its own included; 0 to 1.
        num_answers: that were compared.
        num_agreeing: answers that are more like it than not, itself among them.
    """

    winner: int
    share: float
    num_answers: int
    num_agreeing: int


def hold_vote(
    answers: Sequence[str], question: str = "", weights: Sequence[float] | None = None
) -> Vote:
    """Return the vote of some answers; of equals the first wins.

    Among short answers this is the majority of the same ones (self-consistency, Wang et al. 2022,
    arXiv:2203.11171), by their weights where they have any (confidence.weigh_votes). Long answers
    agree as far as they share words, and the one most like all others wins, which is minimum Bayes
    risk decoding (Kumar and Byrne 2004, N04-1022).

    Args:
        answers: at least one.
        question: that they answer.
        weights: one an answer, none below 0; None for equal ones.

    Raises:
        ValueError: there is no answer, there are not as many weights, or they come to nothing.
    """
    votes = [1.0] * len(answers) if weights is None else list(weights)
    total = sum(votes)
    if len(votes) != len(answers) or not total > 0:
        raise ValueError(f"{len(answers)} answers cannot be weighted with {votes}.")
    gists = [find_gist(question, answer) for answer in answers]
    table = [[find_similarity(one, other) for other in gists] for one in gists]
    support = [sum(like * weight for like, weight in zip(row, votes, strict=True)) for row in table]
    winner = max(range(len(answers)), key=support.__getitem__)
    return Vote(
        winner=winner,
        share=min(1.0, support[winner] / total),
        num_answers=len(answers),
        num_agreeing=sum(like > 0.5 for like in table[winner]),  # noqa: PLR2004 - more than half
    )


def find_similarity(one: Sequence[str], other: Sequence[str]) -> float:
    """Return how much two answers say the same, by the words that they come to; 0 to 1.

    The same words are 1. Where either is short, anything else is 0; long ones are as similar as
    the share of words that they have in both (Dice 1945, Ecology 26).
    """
    if tuple(one) == tuple(other):
        return 1.0
    if min(len(one), len(other)) <= _MAX_SHORT_WORDS:
        return 0.0
    here, there = set(one), set(other)
    return 2 * len(here & there) / (len(here) + len(there))

"""Fits the calibration of the built-in model, and shows what a cascade would gain by it.

usage: python -m benchmarks.confidence.fit [--keep FILE] [--dry]

Reads the development part alone. Each question is answered once at temperature 0 and several times
by chance; from these answers alone every threshold is tried. Figures are cross-validated: each
fold's confidences come from a fit without it. Writes mm_orch/consciousness/calibrations.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from benchmarks.confidence.answers import is_right
from benchmarks.confidence.asking import (
    Told,
    ask_all,
    ask_model,
    built_in_source,
    serve,
    word,
)
from benchmarks.confidence.questions import load_questions
from benchmarks.contenders import run_all
from mm_orch.consciousness.agreement import hold_vote
from mm_orch.consciousness.calibration import (
    FORMAT,
    Curve,
    ModelCalibration,
    answer_figures,
    vote_figures,
)
from mm_orch.consciousness.calibration_error import (
    brier_score,
    expected_calibration_error,
    rank_quality,
)
from mm_orch.consciousness.confidence import measure_tokens, weigh_votes
from mm_orch.consciousness.fitting import fit_curve
from mm_orch.consciousness.gauge import CALIBRATIONS, write_calibration
from mm_orch.workflows.cascade_settings import CascadeSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.confidence.questions import Question
    from mm_orch.consciousness.agreement import Vote

ANSWER_NAMES = ("run_probability", "least_probability")
VOTE_NAMES = ("share", "is_first", "first_score")
_NUM_FOLDS = 10
_THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8)
_PENALTY = 1.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with a first answer and further ones."""

    question: Question
    first: Told
    others: tuple[Told, ...]

    @property
    def is_right(self) -> bool:
        """Whether the first answer is."""
        return is_right(self.question, self.first.text)

    @property
    def figures(self) -> dict[str, float]:
        """Of the first answer's tokens; an answer without tokens is as unsure as can be."""
        tokens = measure_tokens(self.first.logprobs or (-math.inf,))
        if tokens is None:
            raise ValueError("There are no tokens.")
        return answer_figures(tokens)

    def hold_vote(self) -> Vote:
        """Return what all answers come to, as the cascade has it."""
        answers = [self.first, *self.others]
        weights = weigh_votes([one.logprobs for one in answers])
        return hold_vote([one.text for one in answers], word(self.question), weights)

    def is_vote_right(self, vote: Vote) -> bool:
        """Whether the winner is."""
        return is_right(self.question, [self.first, *self.others][vote.winner].text)


def main() -> int:
    """Ask, fit, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", type=Path, help="file of the answers, read where it is there")
    parser.add_argument("--dry", action="store_true", help="write no calibration")
    options = parser.parse_args()
    questions = load_questions("development")
    settings = CascadeSettings()
    asked = _ask(questions, settings, options.keep)
    confidences = cross_validate(asked)
    _show(asked, confidences)
    if not options.dry:
        path = CALIBRATIONS / "smollm2-135m.json"
        path.parent.mkdir(exist_ok=True)
        write_calibration(make_calibration(asked, settings), path)
        print(f"written: {path.name}")
    return 0


def make_calibration(asked: Sequence[Asked], settings: CascadeSettings) -> ModelCalibration:
    """Return what is fitted to all of these answers."""
    answer = fit_answers(asked)
    return ModelCalibration(
        format=FORMAT,
        source=built_in_source(),
        questions_digest=digest([one.question for one in asked]),
        max_tokens=max(one.first.num_tokens for one in asked),
        num_votes=settings.num_samples + 1,
        answer=answer,
        vote=fit_votes(asked, [answer.apply(one.figures) for one in asked]),
    )


def digest(questions: Sequence[Question]) -> str:
    """Return a digest of questions with their answers."""
    return hashlib.sha256(msgspec.json.encode(questions)).hexdigest()[:16]


def fit_answers(asked: Sequence[Asked], names: Sequence[str] = ANSWER_NAMES) -> Curve:
    """Return the curve of first answers."""
    return fit_curve(
        [one.figures for one in asked], [one.is_right for one in asked], names, penalty=_PENALTY
    )


def fit_votes(asked: Sequence[Asked], firsts: Sequence[float]) -> Curve:
    """Return the curve of votes, by how sure the first answers were."""
    votes = [one.hold_vote() for one in asked]
    return fit_curve(
        [vote_figures(vote, first) for vote, first in zip(votes, firsts, strict=True)],
        [one.is_vote_right(vote) for one, vote in zip(asked, votes, strict=True)],
        VOTE_NAMES,
        penalty=_PENALTY,
    )


def cross_validate(asked: Sequence[Asked]) -> list[tuple[float, float]]:
    """Return the confidence of each first answer and of each vote, by fits without its fold."""
    order = list(range(len(asked)))
    random.Random(0).shuffle(order)  # noqa: S311 - reproducible on purpose
    found = [(0.0, 0.0)] * len(asked)
    for fold in range(_NUM_FOLDS):
        outside = order[fold::_NUM_FOLDS]
        inside = [asked[place] for place in order if place not in set(outside)]
        answer = fit_answers(inside)
        vote = fit_votes(inside, [answer.apply(one.figures) for one in inside])
        for place in outside:
            one = asked[place]
            first = answer.apply(one.figures)
            found[place] = (first, vote.apply(vote_figures(one.hold_vote(), first)))
    return found


def _ask(
    questions: Sequence[Question], settings: CascadeSettings, keep: Path | None
) -> list[Asked]:
    if keep is not None and keep.exists():
        answers = msgspec.json.decode(keep.read_bytes(), type=list[list[Told]])
    else:
        with run_all([serve("fit", {})]) as [running]:
            port = running.process.port
            answers = ask_all(lambda one: _ask_often(port, one, settings), questions)
    if keep is not None:
        keep.write_bytes(msgspec.json.encode(answers))
    return [
        Asked(question, first, tuple(others))
        for question, (first, *others) in zip(questions, answers, strict=True)
    ]


def _ask_often(port: int, question: Question, settings: CascadeSettings) -> list[Told]:
    further = [
        ask_model(port, question, temperature=settings.temperature, seed=number)
        for number in range(1, settings.num_samples + 1)
    ]
    return [ask_model(port, question), *further]


def _show(asked: Sequence[Asked], confidences: Sequence[tuple[float, float]]) -> None:
    rights = [one.is_right for one in asked]
    votes = [one.hold_vote() for one in asked]
    vote_rights = [one.is_vote_right(vote) for one, vote in zip(asked, votes, strict=True)]
    print(f"questions {len(asked)}, first right {_share(rights)}, vote right {_share(vote_rights)}")
    for kind in dict.fromkeys(one.question.kind for one in asked):
        inside = [place for place, one in enumerate(asked) if one.question.kind == kind]
        first = _share([rights[place] for place in inside])
        print(f"    {kind}: first {first}, vote {_share([vote_rights[place] for place in inside])}")
    raw = [
        tokens.normalised_probability if (tokens := measure_tokens(one.first.logprobs)) else 0.0
        for one in asked
    ]
    _show_errors("first, raw", raw, rights)
    _show_errors("first, calibrated", [first for first, _ in confidences], rights)
    _show_errors("vote, raw", [vote.share for vote in votes], vote_rights)
    _show_errors("vote, calibrated", [vote for _, vote in confidences], vote_rights)
    print("threshold: share asked again, right, tokens over those of always")
    for threshold in _THRESHOLDS:
        again = [first < threshold for first, _ in confidences]
        right = [
            vote if is_again else first
            for first, vote, is_again in zip(rights, vote_rights, again, strict=True)
        ]
        print(f"    {threshold}: {_share(again)}, {_share(right)}, {_tokens(asked, again):.3f}")


def _tokens(asked: Sequence[Asked], again: Sequence[bool]) -> float:
    first = sum(one.first.num_tokens for one in asked)
    further = [sum(told.num_tokens for told in one.others) for one in asked]
    spent = sum(more for more, is_again in zip(further, again, strict=True) if is_again)
    return (first + spent) / (first + sum(further))


def _show_errors(name: str, confidences: Sequence[float], outcomes: Sequence[bool]) -> None:
    print(
        f"{name}: ECE {expected_calibration_error(confidences, outcomes):.3f},"
        f" Brier {brier_score(confidences, outcomes):.3f},"
        f" rank {rank_quality(confidences, outcomes):.3f}"
    )


def _share(outcomes: Sequence[bool]) -> float:
    return round(sum(outcomes) / len(outcomes), 3)


if __name__ == "__main__":
    sys.exit(main())

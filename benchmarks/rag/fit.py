"""Fits the test that says whether anything found answers a question, to the development questions.

usage: python -m benchmarks.rag.fit

Writes mm_orch/retrieval/evidence_weights.json: logistic regressions with a quadratic penalty, found
by Newton's method, with and without vectors. That which says whether the documents are about such
things is fitted to the answerable questions against those of the gap outside and those of
general_questions.txt, which are long as none of the others are; that which says whether they tell
it, to all but these. The threshold is the lowest at which so many unanswerable questions are
declined, each judged without its fold, that the lower end of Wilson's 95% interval reaches the bar
of 0.8: one that just reaches it with these questions would miss it with others half of the time.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from benchmarks.rag.corpus import Question, load_questions
from benchmarks.rag.finding import find_all
from benchmarks.rag.index import open_index
from benchmarks.routing.scoring import wilson
from benchmarks.statistics import show_ratio
from mm_orch.retrieval.evidence import (
    FORMAT,
    WEIGHTS_PATH,
    EvidenceModel,
    EvidenceModels,
    Regression,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from benchmarks.rag.finding import Finding

    Fit = tuple[NDArray[np.float64], float]
    """Weights, and what is added."""

TOLD = ("keys", "coverage", "length", "missing")
ABOUT = {True: ("cosine", "coverage", "near_keys", "named"), False: ("coverage", "named")}
"""What is measured where vectors were searched, and where they could not be."""
_PENALTY = 0.3
_NUM_STEPS = 30
_NUM_FOLDS = 10
_NUM_DIVISIONS = 5
_BAR_DECLINED = 0.8


def main() -> int:
    """Fit, write, and print what the thresholds cost."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    findings = asyncio.run(_find())
    models = [_fit_pair(findings, has_vectors=has_vectors) for has_vectors in ABOUT]
    digest = hashlib.sha256(msgspec.json.encode([one.question for one in findings])).hexdigest()
    made = EvidenceModels(format=FORMAT, questions_digest=digest[:16], models=tuple(models))
    WEIGHTS_PATH.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
    return 0


def fit(values: NDArray[np.float64], answerable: NDArray[np.bool_]) -> Fit:
    """Return weights and bias of a logistic regression; both answers count the same.

    Args:
        values: questions x features.
        answerable: of each question.
    """
    means, scales = values.mean(axis=0), values.std(axis=0)
    scales[scales == 0] = 1.0
    ahead = np.column_stack([(values - means) / scales, np.ones(len(values))])
    counts = np.where(answerable, answerable.mean(), 1 - answerable.mean())
    importance = 0.5 / counts
    penalty = np.diag([_PENALTY] * values.shape[1] + [0.0])
    weights = np.zeros(ahead.shape[1])
    for _ in range(_NUM_STEPS):
        shares = 1 / (1 + np.exp(-ahead @ weights))
        gradient = ahead.T @ (importance * (shares - answerable)) + penalty @ weights
        curvature = (ahead.T * (importance * shares * (1 - shares))) @ ahead + penalty
        weights -= np.linalg.solve(curvature, gradient)
    own = weights[:-1] / scales
    return own, float(weights[-1] - means @ own)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Questions as numbers.

    Attributes:
        about, told: questions x features.
        answerable: of each question.
        is_general: it is of the gap outside.
        is_extra: it is of general_questions.txt.
    """

    about: NDArray[np.float64]
    told: NDArray[np.float64]
    answerable: NDArray[np.bool_]
    is_general: NDArray[np.bool_]
    is_extra: NDArray[np.bool_]

    def fit(self, chosen: NDArray[np.bool_]) -> tuple[Fit, Fit]:
        """Return weights and bias of both regressions, fitted to the chosen questions."""
        for_about = chosen & (self.answerable | self.is_general)
        for_told = chosen & ~self.is_general
        return (
            fit(self.about[for_about], self.answerable[for_about]),
            fit(self.told[for_told], self.answerable[for_told]),
        )


def cross_validate(examples: Examples) -> NDArray[np.float64]:
    """Return the probability for each question by regressions that have not seen its fold.

    The mean over several ways to divide them.
    """
    num = len(examples.answerable)
    judged = np.zeros(num)
    for seed in range(_NUM_DIVISIONS):
        folds = np.random.default_rng(seed).permutation(num) % _NUM_FOLDS
        for fold in range(_NUM_FOLDS):
            out = folds == fold
            about, told = examples.fit(~out)
            judged[out] += _shares(examples.about[out], about) * _shares(examples.told[out], told)
    return judged / _NUM_DIVISIONS


def _shares(values: NDArray[np.float64], fitted: Fit) -> NDArray[np.float64]:
    weights, bias = fitted
    shares: NDArray[np.float64] = 1 / (1 + np.exp(-(values @ weights + bias)))
    return shares


def _fit_pair(findings: Sequence[Finding], *, has_vectors: bool) -> EvidenceModel:
    """Fit what decides, print what it costs."""
    questions = [one.question for one in findings]
    general = set(_general_questions())
    examples = Examples(
        about=_measure(findings, ABOUT[has_vectors], has_vectors=has_vectors),
        told=_measure(findings, TOLD, has_vectors=has_vectors),
        answerable=np.array([one.kind != "unanswerable" for one in questions]),
        is_general=np.array([one.gap == "outside" for one in questions]),
        is_extra=np.array([one.question in general for one in questions]),
    )
    judged, own = cross_validate(examples), ~examples.is_extra
    threshold = choose_threshold(judged[own], examples.answerable[own])
    declined = judged < threshold
    searched = "words and vectors" if has_vectors else "words"
    print(
        f"{searched}: {_rate(declined[own & ~examples.answerable])} declined,"
        f" {_rate(declined[examples.answerable])} wrongly;"
        f" {declined[examples.is_extra].mean():.3f} of the general questions"
    )
    about, told = examples.fit(np.ones(len(questions), dtype=bool))
    return EvidenceModel(
        about=_as_regression(ABOUT[has_vectors], about),
        told=_as_regression(TOLD, told),
        threshold=round(threshold, 3),
    )


def _rate(declined: NDArray[np.bool_]) -> str:
    return show_ratio(wilson(int(declined.sum()), len(declined)).rounded)


def _as_regression(features: tuple[str, ...], fitted: Fit) -> Regression:
    weights, bias = fitted
    return Regression(
        features=features,
        weights=tuple(round(float(weight), 4) for weight in weights),
        bias=round(bias, 4),
    )


def choose_threshold(judged: NDArray[np.float64], answerable: NDArray[np.bool_]) -> float:
    """Return the lowest threshold that declines enough; no higher one declines fewer wrongly.

    Where too few questions are unanswerable for that, it declines all of them.
    """
    ordered = np.sort(judged[~answerable])
    last = ordered[_count_needed(len(ordered)) - 1]
    above = np.sort(judged[judged > last])
    return float((last + above[0]) / 2) if len(above) else 1.0


def _count_needed(num_unanswerable: int) -> int:
    """Return how many of them must be declined for the bar to be surely reached."""
    return next(
        (
            num
            for num in range(1, num_unanswerable)
            if wilson(num, num_unanswerable).low >= _BAR_DECLINED
        ),
        num_unanswerable,
    )


def _measure(
    findings: Sequence[Finding], features: Sequence[str], *, has_vectors: bool
) -> NDArray[np.float64]:
    measured = [one.measure(has_vectors=has_vectors) or {} for one in findings]
    return np.array([[one.get(name, 0.0) for name in features] for one in measured])


def _general_questions() -> list[str]:
    return Path(__file__).with_name("general_questions.txt").read_text("utf-8").splitlines()


async def _find() -> list[Finding]:
    general = [
        Question(
            question=question,
            kind="unanswerable",
            part="development",
            document=None,
            evidence=(),
            answer=None,
            gap="outside",
        )
        for question in _general_questions()
    ]
    async with open_index() as index:
        return await find_all(index, [*load_questions("development"), *general])


if __name__ == "__main__":
    sys.exit(main())

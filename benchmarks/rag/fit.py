"""Fits the test that says whether anything found answers a question, to the development questions.

usage: python -m benchmarks.rag.fit

Writes mm_orch/retrieval/evidence_weights.json: a logistic regression with a quadratic penalty for
whatever has not failed, found by Newton's method, and its threshold. That is the one at which at
least 0.85 of the unanswerable questions are declined and the fewest answerable ones, each question
judged by a regression that was fitted without its fold.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from benchmarks.rag.corpus import load_questions
from benchmarks.rag.finding import find_all
from benchmarks.rag.index import open_index
from mm_orch.retrieval.evidence import FORMAT, WEIGHTS_PATH, EvidenceModel, EvidenceModels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from benchmarks.rag.finding import Finding

_BY_WORDS = ("keys", "coverage", "length")
FEATURES = {True: (*_BY_WORDS, "cosine", "keys_and_cosine"), False: _BY_WORDS}
"""What is measured where vectors were searched, and where they could not be."""
_PENALTY = 1.0
_NUM_STEPS = 30
_NUM_FOLDS = 10
_FOLD_SEED = 0
_MIN_DECLINED = 0.85


def main() -> int:
    """Fit, write, and print what the thresholds cost."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    findings = asyncio.run(_find())
    answerable = np.array([one.question.kind != "unanswerable" for one in findings])
    models = []
    for has_vectors, features in FEATURES.items():
        values = _measure(findings, features, has_vectors=has_vectors)
        judged = cross_validate(values, answerable)
        threshold = choose_threshold(judged, answerable)
        declined = judged < threshold
        searched = "words and vectors" if has_vectors else "words"
        print(
            f"{searched}: {declined[~answerable].mean():.3f} declined,"
            f" {declined[answerable].mean():.3f} wrongly, threshold {threshold:.3f}"
        )
        weights, bias = fit(values, answerable)
        models.append(
            EvidenceModel(
                features=features,
                weights=tuple(round(float(weight), 4) for weight in weights),
                bias=round(float(bias), 4),
                threshold=round(threshold, 3),
            )
        )
    digest = hashlib.sha256(msgspec.json.encode([one.question for one in findings])).hexdigest()
    made = EvidenceModels(format=FORMAT, questions_digest=digest[:16], models=tuple(models))
    WEIGHTS_PATH.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
    return 0


def fit(
    values: NDArray[np.float64], answerable: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], float]:
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


def cross_validate(
    values: NDArray[np.float64], answerable: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the probability for each question by a regression that has not seen its fold."""
    folds = np.random.default_rng(_FOLD_SEED).permutation(len(values)) % _NUM_FOLDS
    judged = np.zeros(len(values))
    for fold in range(_NUM_FOLDS):
        out = folds == fold
        weights, bias = fit(values[~out], answerable[~out])
        judged[out] = 1 / (1 + np.exp(-(values[out] @ weights + bias)))
    return judged


def choose_threshold(judged: NDArray[np.float64], answerable: NDArray[np.bool_]) -> float:
    """Return the lowest threshold that declines enough; no higher one declines fewer wrongly."""
    ordered = np.sort(judged[~answerable])
    last = ordered[int(np.ceil(_MIN_DECLINED * len(ordered))) - 1]
    above = np.sort(judged[judged > last])
    return float((last + above[0]) / 2) if len(above) else 1.0


def _measure(
    findings: Sequence[Finding], features: Sequence[str], *, has_vectors: bool
) -> NDArray[np.float64]:
    measured = [one.measure(has_vectors=has_vectors) or {} for one in findings]
    return np.array([[one.get(name, 0.0) for name in features] for one in measured])


async def _find() -> list[Finding]:
    async with open_index() as index:
        return await find_all(index, load_questions("development"))


if __name__ == "__main__":
    sys.exit(main())

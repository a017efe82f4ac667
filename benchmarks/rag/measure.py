"""How much of the evidence is found, and how many questions without an answer are declined.

usage: python -m benchmarks.rag.measure [--part development | held_out] [--quotes] [--answers N]

Whoever chooses settings measures the development part. The held-out part is measured when all is
chosen, once; of it figures are printed alone, and no question.

--quotes also says how often the evidence is among the sentences that would be quoted. --answers N
has the built-in model answer about N questions through the whole workflow, and looks every cited
source up: its place must have the numbers and the names of what it is cited for, and nearly all
its words.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.rag.answering import answer_all
from benchmarks.rag.corpus import load_documents, load_questions
from benchmarks.rag.finding import NUM_TOP, find_all, recall
from benchmarks.rag.index import open_index
from benchmarks.results_file import report
from benchmarks.statistics import Verdict, bootstrap
from mm_orch.retrieval.evidence import WEIGHTS_PATH, choose_quotes, load_models

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from benchmarks.rag.corpus import Part
    from benchmarks.rag.finding import Finding

_MIN_RECALL = 0.9
_MIN_DECLINED = 0.8
_MIN_CHUNKS = 1000
_NUM_QUOTES = 3


def main() -> int:
    """Measure, print, write; return 1 when a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("development", "held_out"), default="development")
    parser.add_argument("--quotes", action="store_true")
    parser.add_argument("--answers", type=int, default=0)
    arguments = parser.parse_args()
    figures = asyncio.run(_measure(arguments.part, arguments.answers, is_reading=arguments.quotes))
    name = "rag" if arguments.part == "held_out" else "rag_development"
    return report(name, figures, [], _judge(figures))


async def _measure(part: Part, num_answers: int, *, is_reading: bool) -> dict[str, Any]:
    questions = load_questions(part)
    async with open_index() as index:
        findings = await find_all(index, questions, is_reading=is_reading)
        figures: dict[str, Any] = {
            "part": part,
            "weights_digest": hashlib.sha256(WEIGHTS_PATH.read_bytes()).hexdigest()[:16],
            "num_documents": len(load_documents()),
            "num_chunks": await index.count_chunks(),
            "num_questions": len(questions),
            **_measure_finding([one for one in findings if one.question.evidence]),
            "declined": _measure_declining(findings, has_vectors=True),
            "declined_by_words_alone": _measure_declining(findings, has_vectors=False),
        }
        if is_reading:
            answerable = [one for one in findings if one.question.evidence]
            figures["evidence_among_three_quotes"] = _mean_of(list(map(_is_quoted, answerable)))
        if num_answers:
            # Of all kinds: they stand in order of their documents.
            every = max(1, len(questions) // num_answers)
            figures["answers"] = await answer_all(index, questions[::every])
    return figures


def _measure_finding(findings: Sequence[Finding]) -> dict[str, Any]:
    recalls = {
        "hybrid": [
            recall(one.question, [c.found for c in one.candidates[:NUM_TOP]]) for one in findings
        ],
        "vectors": [recall(one.question, one.vectors[:NUM_TOP]) for one in findings],
        "words": [recall(one.question, one.words[:NUM_TOP]) for one in findings],
    }
    kinds = np.array([one.question.kind for one in findings])
    return {
        "recall_at_5": {
            search: {
                "all": _mean_of(values),
                **{
                    kind: round(float(np.array(values)[kinds == kind].mean()), 3)
                    for kind in dict.fromkeys(kinds.tolist())
                },
            }
            for search, values in recalls.items()
        },
        "hybrid_over_vectors": _mean_of(np.subtract(recalls["hybrid"], recalls["vectors"])),
        "hybrid_over_words": _mean_of(np.subtract(recalls["hybrid"], recalls["words"])),
    }


def _mean_of(values: Sequence[float] | NDArray[np.float64]) -> list[float]:
    """Return the mean and its interval, of questions drawn anew."""
    drawn = np.asarray(values, dtype=float)
    return bootstrap(len(drawn), lambda chosen: float(drawn[list(chosen)].mean())).rounded


def _measure_declining(findings: Sequence[Finding], *, has_vectors: bool) -> dict[str, Any]:
    models = load_models()
    declined: dict[str, list[bool]] = {}
    for one in findings:
        measured = one.measure(has_vectors=has_vectors)
        is_declined = measured is None or not models.judge(measured).is_enough
        group = one.question.gap or "answerable"
        declined.setdefault(group, []).append(is_declined)
        if one.question.gap:
            declined.setdefault("unanswerable", []).append(is_declined)
        else:
            declined.setdefault(one.question.kind, []).append(is_declined)
    return {group: _mean_of(values) for group, values in declined.items()}


def _is_quoted(finding: Finding) -> float:
    """Say whether what would be quoted holds any of the evidence, or is a part of it."""
    quotes = choose_quotes(
        finding.question.question, finding.candidates, finding.places, _NUM_QUOTES
    )
    return float(
        any(
            place.sentence in evidence or evidence in place.sentence
            for place in quotes
            for evidence in finding.question.evidence
        )
    )


def _judge(figures: Mapping[str, Any]) -> dict[str, Verdict]:
    hybrid = figures["recall_at_5"]["hybrid"]["all"][0]
    declined = figures["declined"]["unanswerable"][0]
    return {
        "recall_at_5": _reaches(hybrid, _MIN_RECALL),
        "hybrid_over_vectors": _reaches(figures["hybrid_over_vectors"][1], 0.0),
        "hybrid_over_words": _reaches(figures["hybrid_over_words"][1], 0.0),
        "declined": _reaches(declined, _MIN_DECLINED),
        "num_chunks": _reaches(figures["num_chunks"], _MIN_CHUNKS),
    }


def _reaches(value: float, bar: float) -> Verdict:
    return Verdict.MET if value >= bar else Verdict.MISSED


if __name__ == "__main__":
    sys.exit(main())

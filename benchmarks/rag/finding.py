"""What the product finds for each question, as the workflow rag_qa does it step by step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mm_orch.retrieval.evidence import measure
from mm_orch.retrieval.fusion import NUM_READ, POOL_SIZE, Candidate, fuse
from mm_orch.retrieval.places import find_places, with_cosines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from benchmarks.rag.corpus import Question
    from benchmarks.rag.index import Index
    from mm_orch.retrieval.places import Place
    from mm_orch.storage.documents import Found

NUM_TOP = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found for one question.

    Attributes:
        words: by words alone, the best first.
        vectors: by vectors alone.
        candidates: by both, as the workflow orders them.
        places: sentences of the first of them.
    """

    question: Question
    words: tuple[Found, ...]
    vectors: tuple[Found, ...]
    candidates: tuple[Candidate, ...]
    places: tuple[Place, ...]

    def measure(self, *, has_vectors: bool) -> dict[str, float] | None:
        """Return what the evidence test measures, with or without vectors; None of nothing."""
        question = self.question.question
        candidates = self.candidates if has_vectors else fuse(question, self.words, ())
        return measure(question, candidates) if candidates else None


async def find_all(
    index: Index, questions: Sequence[Question], *, is_reading: bool = False
) -> list[Finding]:
    """Search for every question.

    Args:
        index: where.
        questions: what for.
        is_reading: also compare the sentences of the best passages with it, which takes minutes.
    """
    vectors = await index.embed([one.question for one in questions])
    findings = []
    for question, vector in zip(questions, vectors, strict=True):
        words = await index.search_words(question.question, POOL_SIZE)
        nearest = await index.search_vectors(vector, POOL_SIZE)
        candidates = fuse(question.question, words, nearest)
        findings.append(
            Finding(
                question=question,
                words=words,
                vectors=nearest,
                candidates=tuple(candidates),
                places=find_places([one.chunk for one in candidates[:NUM_READ]]),
            )
        )
    return await _read(index, findings, vectors) if is_reading else findings


async def _read(
    index: Index, findings: Sequence[Finding], vectors: Sequence[NDArray[np.float32]]
) -> list[Finding]:
    known = await index.embed_known({place.content for one in findings for place in one.places})
    return [
        replace(
            one,
            places=with_cosines(
                one.places, [float(np.dot(known[place.content], vector)) for place in one.places]
            ),
        )
        for one, vector in zip(findings, vectors, strict=True)
    ]


def recall(question: Question, found: Sequence[Found]) -> float:
    """Return the share of the question's evidence that stands in these chunks."""
    texts = [_spaced(one.chunk.text) for one in found if one.document_name == question.document]
    held = [any(_spaced(evidence) in text for text in texts) for evidence in question.evidence]
    return sum(held) / len(held)


def _spaced(text: str) -> str:
    return " ".join(text.split())

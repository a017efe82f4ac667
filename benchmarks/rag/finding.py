"""What the product finds for each question, as the workflow rag_qa does it step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mm_orch.retrieval.evidence import measure
from mm_orch.retrieval.fusion import NUM_READ, POOL_SIZE, Candidate, fuse
from mm_orch.retrieval.places import find_places, with_cosines

if TYPE_CHECKING:
    from collections.abc import Sequence

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


async def find_all(index: Index, questions: Sequence[Question]) -> list[Finding]:
    """Search for every question, and compare the sentences of the best passages with it."""
    vectors = await index.embed([one.question for one in questions])
    searched = [
        (
            await index.search_words(question.question, POOL_SIZE),
            await index.search_vectors(vector, POOL_SIZE),
        )
        for question, vector in zip(questions, vectors, strict=True)
    ]
    fused = [fuse(one.question, *found) for one, found in zip(questions, searched, strict=True)]
    places = [find_places([one.chunk for one in found[:NUM_READ]]) for found in fused]
    known = await index.embed_known({place.content for some in places for place in some})
    findings = []
    for number, question in enumerate(questions):
        cosines = [float(np.dot(known[one.content], vectors[number])) for one in places[number]]
        read = with_cosines(places[number], cosines)
        findings.append(
            Finding(
                question=question,
                words=searched[number][0],
                vectors=searched[number][1],
                candidates=tuple(fused[number]),
                places=read,
            )
        )
    return findings


def recall(question: Question, found: Sequence[Found]) -> float:
    """Return the share of the question's evidence that stands in these chunks."""
    texts = [_spaced(one.chunk.text) for one in found if one.document_name == question.document]
    held = [any(_spaced(evidence) in text for text in texts) for evidence in question.evidence]
    return sum(held) / len(held)


def _spaced(text: str) -> str:
    return " ".join(text.split())

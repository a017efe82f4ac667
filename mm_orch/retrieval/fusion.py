"""Makes one list of what words and what vectors have found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.retrieval.coverage import share_of, weigh_terms
from mm_orch.retrieval.terms import read_question, terms_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.storage.documents import Chunk, Found

NUM_READ = 5
"""Passages whose sentences are compared with the question."""
POOL_SIZE = 50
"""Chunks that either search is asked for, so that one's best is seldom unknown to the other."""
# As a listwise ranking that was fitted to the development questions of benchmarks/rag has them.
_WORDS, _VECTORS, _COVERAGE = 0.15, 0.3, 0.55


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A chunk that may answer the question.

    Attributes:
        found: the chunk, and its document.
        cosine: with the question; of one that vectors did not find, the least that they found; None
            where no vectors were searched.
        score: of words, vectors and coverage together, 0 to 1.
        terms: of its heading and text.
    """

    found: Found
    cosine: float | None
    score: float
    terms: frozenset[str]

    @property
    def chunk(self) -> Chunk:
        """The chunk itself."""
        return self.found.chunk

    @property
    def key(self) -> tuple[str, int]:
        """What no other chunk has."""
        return self.chunk.document_id, self.chunk.number


def fuse(question: str, words: Sequence[Found], vectors: Sequence[Found]) -> list[Candidate]:
    """Return all that either search has found, each chunk once, the best first.

    Each search's scores are brought to 0 to 1, from its worst to its best, and added with weights
    (a convex combination; Bruch, Gai and Ingber, arXiv:2210.11934) to the share of the question's
    words that the chunk has: each counts once, however often it is there. BM25 begins at 0, which
    is a chunk without any of the words.

    Args:
        question: as it was asked.
        words: with BM25 as their scores.
        vectors: with cosines.
    """
    found = {_key(one): one for one in (*words, *vectors)}
    terms = {key: frozenset(terms_of(one.chunk.content)) for key, one in found.items()}
    asked = read_question(question).content
    weights = weigh_terms(asked, list(terms.values()))
    by_words = _spread(words, lowest=0.0)
    lowest = min((one.score for one in vectors), default=0.0)
    by_vectors = _spread(vectors, lowest=lowest)
    by_kind = (_WORDS * bool(words), _VECTORS * bool(vectors), _COVERAGE)
    total = sum(by_kind)
    cosines = {_key(one): one.score for one in vectors}
    candidates = [
        Candidate(
            found=one,
            cosine=cosines.get(key, lowest) if vectors else None,
            score=(
                by_kind[0] * by_words.get(key, 0.0)
                + by_kind[1] * by_vectors.get(key, 0.0)
                + by_kind[2] * share_of(weights, asked, terms[key])
            )
            / total,
            terms=terms[key],
        )
        for key, one in found.items()
    ]
    return sorted(candidates, key=lambda one: (-one.score, one.key))


def _spread(found: Sequence[Found], *, lowest: float) -> dict[tuple[str, int], float]:
    """Return scores by chunk, from 0 for the lowest to 1 for the best."""
    width = max((one.score for one in found), default=0.0) - lowest
    if width <= 0:
        return {_key(one): 1.0 for one in found}
    return {_key(one): max(0.0, one.score - lowest) / width for one in found}


def _key(found: Found) -> tuple[str, int]:
    return found.chunk.document_id, found.chunk.number

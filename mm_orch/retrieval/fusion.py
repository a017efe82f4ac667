"""Makes one list of what words and what vectors have found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.storage.documents import Chunk, Found

POOL_SIZE = 50
"""Chunks that either search is asked for, so that one's best is seldom unknown to the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A chunk that may answer the question.

    Attributes:
        found: the chunk, and its document.
        word_score: BM25 over the best one's, 0 to 1; 0 where words did not find it.
        cosine: with the question; where vectors did not find it, the least that they found.
        score: of both together; greater is better.
    """

    found: Found
    word_score: float
    cosine: float
    score: float

    @property
    def chunk(self) -> Chunk:
        """The chunk itself."""
        return self.found.chunk


def fuse(words: Sequence[Found], vectors: Sequence[Found]) -> list[Candidate]:
    raise NotImplementedError

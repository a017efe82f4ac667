"""Finds chunks in PostgreSQL: words by its text search, vectors here; implements DocumentIndex.

A chunk's score for a query is the sum, over the query's words that it has, of the word's weight
times ``ts_rank`` of the word alone: which grows with how often the chunk has it, ever less, and
shrinks with the chunk's length. The weight is BM25's: the fewer chunks of the owner have the word,
the more it counts.

Source: Robertson and Zaragoza, The Probabilistic Relevance Framework (2009), for the weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mm_orch.storage import document_rows as rows
from mm_orch.storage.document_lines import VECTOR_DTYPE
from mm_orch.storage.word_search import MAX_TERMS, owner_letters, plain_words, query_terms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from mm_orch.storage.documents import Found
    from mm_orch.storage.postgres_text import PostgresStatements

    Search = Callable[[PostgresStatements], tuple[Found, ...]]

# A chunk's words and their places may take 1 MiB there; what stands in its text after so many
# characters is found by its vector alone. Chunks of our own making are far smaller.
_MAX_WORDS_CHARS = 2**17
# 1: divided by 1 + the logarithm of the length.
_BY_WORDS = (
    "WITH asked AS (SELECT place, to_tsquery('muai.words', text) AS term"
    " FROM unnest(CAST(:terms AS TEXT[])) WITH ORDINALITY AS given (text, place)),"
    " hits AS MATERIALIZED (SELECT asked.place, chunks.number,"
    " ts_rank(chunks.words, asked.term, 1) AS rank FROM asked JOIN chunks"
    " ON chunks.words @@ (to_tsquery('muai.words', :owner_word) && asked.term)),"
    " held AS (SELECT CAST(sum(num_chunks) AS DOUBLE PRECISION) AS num_chunks FROM documents"
    " WHERE owner = :owner),"
    " weights AS (SELECT place, ln(1 + (max(held.num_chunks) - count(*) + 0.5) / (count(*) + 0.5))"
    " AS weight FROM hits CROSS JOIN held GROUP BY place)"
    " SELECT hits.number AS chunk, sum(weights.weight * hits.rank) AS score"
    " FROM hits JOIN weights ON weights.place = hits.place GROUP BY hits.number"
    " ORDER BY score DESC, chunk LIMIT :limit"
)
_VECTORS = (
    "SELECT vectors.chunk, vectors.vector FROM documents"
    " JOIN chunks ON chunks.document = documents.number"
    " JOIN vectors ON vectors.chunk = chunks.number"
    " WHERE documents.owner = :owner AND documents.embedding_model = :model"
    " AND length(vectors.vector) = :num_bytes"
)
_GIVEN = (
    "SELECT * FROM unnest(CAST(:numbers AS BIGINT[]), CAST(:scores AS DOUBLE PRECISION[]))"
    " AS given (chunk, score)"
)
# 3 MB of vectors with 384 dimensions.
_NUM_AT_ONCE = 2000


class TsvectorIndex:
    """The tables of postgres_schema."""

    insert_chunk = (
        "INSERT INTO chunks (document, place, heading, content, begins_at, ends_at, page, words)"
        " VALUES (:document, :place, :heading, :content, :begins_at, :ends_at, :page,"
        " to_tsvector('muai.words', :words))"
    )

    def index(self, owner: str, content: str) -> Mapping[str, object]:
        """See DocumentIndex."""
        words = " ".join(plain_words(content[:_MAX_WORDS_CHARS]))
        return {"words": f"{owner_letters(owner)} {words}"}

    def find_words(self, owner: str, query: str, limit: int) -> Search | None:
        """See DocumentIndex."""
        terms = query_terms(query)[:MAX_TERMS]
        if not terms:
            return None
        asked = {
            "terms": terms,
            "owner_word": owner_letters(owner),
            "owner": owner,
            "limit": limit,
        }
        return lambda connection: rows.find_chunks(connection, _BY_WORDS, asked)

    def find_vectors(self, owner: str, vector: bytes, embedding_model: str, limit: int) -> Search:
        """See DocumentIndex."""
        asked = {"owner": owner, "model": embedding_model, "num_bytes": len(vector)}
        query = np.frombuffer(vector, VECTOR_DTYPE)

        def search(connection: PostgresStatements) -> tuple[Found, ...]:
            nearest = _Nearest(limit)
            for part in connection.stream(_VECTORS, asked, num_rows=_NUM_AT_ONCE):
                stored = np.frombuffer(b"".join(vector for _, vector in part), VECTOR_DTYPE)
                # Of length 1, all of them, so that this is the cosine.
                scores = stored.reshape(len(part), -1) @ query
                nearest.add(np.array([number for number, _ in part]), scores)
            found = {"numbers": nearest.numbers.tolist(), "scores": nearest.scores.tolist()}
            return rows.find_chunks(connection, _GIVEN, {**found, "owner": owner})

        return search


class _Nearest:
    """The chunks with the greatest scores, so many of all that were added."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.numbers: NDArray[np.int64] = np.empty(0, np.int64)
        self.scores: NDArray[np.float32] = np.empty(0, np.float32)

    def add(self, numbers: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
        numbers = np.concatenate((self.numbers, numbers))
        scores = np.concatenate((self.scores, scores))
        best = np.argsort(-scores, kind="stable")[: self._limit]
        self.numbers, self.scores = numbers[best], scores[best]

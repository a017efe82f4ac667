"""Finds chunks in SQLite: words by its FTS5, vectors by sqlite-vec; implements DocumentIndex."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.storage import document_rows as rows
from mm_orch.storage.cosine import ensure_cosine
from mm_orch.storage.word_search import make_match, owner_word, pairs_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping

    from mm_orch.storage.documents import Found

    Search = Callable[[sqlite3.Connection], tuple[Found, ...]]

# How much more a word counts that stands in the title or a heading. Words of the index alone count
# nothing, pairs as much as what they stand for.
_HEADING_WEIGHT = 1.0
_BY_WORDS = (
    "SELECT rowid AS chunk, -bm25(chunk_words, 0.0, :heading_weight, 1.0, 1.0) AS score"
    " FROM chunk_words WHERE chunk_words MATCH :match ORDER BY score DESC LIMIT :limit"
)
# What a vector of zeros is like is not known.
_BY_VECTORS = (
    "SELECT vectors.chunk, 1.0 - coalesce(vec_distance_cosine(vectors.vector, :vector), 1.0)"
    " AS score FROM documents JOIN chunks ON chunks.document = documents.number"
    " JOIN vectors ON vectors.chunk = chunks.number"
    " WHERE documents.owner = :owner AND documents.embedding_model = :model"
    " AND length(vectors.vector) = length(:vector) ORDER BY score DESC LIMIT :limit"
)


class Fts5Index:
    """The tables of version 2 (sqlite_schema)."""

    insert_chunk = (
        "INSERT INTO chunks (document, place, owner_word, heading, content, pairs, begins_at,"
        " ends_at, page) VALUES (:document, :place, :owner_word, :heading, :content, :pairs,"
        " :begins_at, :ends_at, :page)"
    )

    def index(self, owner: str, content: str) -> Mapping[str, object]:
        """See DocumentIndex."""
        return {"owner_word": owner_word(owner), "pairs": pairs_of(content)}

    def find_words(self, owner: str, query: str, limit: int) -> Search | None:
        """See DocumentIndex."""
        match = make_match(owner, query)
        if match is None:
            return None
        asked = {
            "match": match,
            "heading_weight": _HEADING_WEIGHT,
            "owner": owner,
            "limit": limit,
        }
        return lambda connection: rows.find_chunks(connection, _BY_WORDS, asked)

    def find_vectors(self, owner: str, vector: bytes, embedding_model: str, limit: int) -> Search:
        """See DocumentIndex."""
        asked = {"vector": vector, "model": embedding_model, "owner": owner, "limit": limit}

        def search(connection: sqlite3.Connection) -> tuple[Found, ...]:
            ensure_cosine(connection)
            return rows.find_chunks(connection, _BY_VECTORS, asked)

        return search

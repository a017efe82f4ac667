"""What the documents' store asks of whoever finds chunks in its database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mm_orch.storage.documents import Found

    Search = Callable[[Any], tuple[Found, ...]]


class DocumentIndex(Protocol):
    """Says how the words of chunks are kept, and makes searches, to be run in a transaction."""

    @property
    def insert_chunk(self) -> str:
        """The statement that writes a chunk, given its columns and what :meth:`index` adds."""

    def index(self, owner: str, content: str) -> Mapping[str, object]:
        """Return the values by which a chunk's words are found, of what is searched of it."""

    def find_words(self, owner: str, query: str, limit: int) -> Search | None:
        """Return the search of DocumentStore.search_words; None where the query has no words."""

    def find_vectors(self, owner: str, vector: bytes, embedding_model: str, limit: int) -> Search:
        """Return the search of DocumentStore.search_vectors; the vector is as it is stored."""

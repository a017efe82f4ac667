"""What a stored document is, and what can be asked of whoever stores them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import msgspec

from mm_orch.storage.sessions import ImportReport, Moment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

DOCUMENT_ID = r"^document-[0-9a-f]{32}$"
MAX_NAME_CHARS = 255
"""Of a document's name."""
MAX_METADATA_BYTES = 16 * 2**10
"""Of a document's metadata as JSON."""
MAX_DOCUMENT_BYTES = 32 * 2**20
"""Of one document's line in an export: its chunks, with vectors."""
MAX_CHUNKS = 10_000
"""Of one document."""
MAX_DOCUMENTS = 10_000
"""Of one owner."""
MAX_OWNER_CHUNKS = 100_000
"""Of all documents of one owner."""
MAX_OWNER_BYTES = 2**30
"""Of all documents of one owner, each counted as its line in an export."""

# Python's own $ fits before a last line end too.
_DocumentId = Annotated[str, msgspec.Meta(pattern=DOCUMENT_ID.replace("$", r"\Z"))]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_CHARS)]
_Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Positive = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class ChunkMetadata(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a chunk stands in its document's text.

    Attributes:
        start: of its first character, counted from 0.
        end: of the character after its last.
        page: on which it begins, counted from 1; None where the file has no pages.
    """

    start: _Count
    end: _Count
    page: _Positive | None = None


class Passage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a document, which is searched and cited as one.

    Attributes:
        text: as the file has it.
        heading: the title and headings that it stands under, joined by " > "; may be empty.
        metadata: where it stands.
    """

    text: Annotated[str, msgspec.Meta(min_length=1)]
    heading: str
    metadata: ChunkMetadata

    @property
    def content(self) -> str:
        """What is searched, and made a vector of: the heading above the text."""
        return f"{self.heading}\n{self.text}" if self.heading else self.text


class Chunk(Passage, frozen=True, kw_only=True):
    """A passage of a stored document.

    Attributes:
        document_id: whose.
        number: its place among the document's chunks, from 0.
    """

    document_id: str
    number: int


class NewDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A document that is to be stored, but for its chunks.

    Attributes:
        name: as the caller has it; the file's name.
        media_type: of the file: text/plain, text/markdown, application/pdf.
        num_bytes: of the file.
        digest: SHA-256 of the file, in hex; with the name it says which document this is.
        metadata: the caller's, a JSON object.
        chunk_size: most tokens of a chunk.
        chunk_overlap: tokens that a chunk has in common with the one before it, at most.
        embedding_model: which made the vectors; None where there are none.
    """

    name: _Name
    media_type: str
    num_bytes: _Count
    digest: _Digest
    metadata: dict[str, Any]
    chunk_size: _Positive
    chunk_overlap: _Count
    embedding_model: str | None = None


class StoredDocument(NewDocument, frozen=True, kw_only=True):
    """A document that has its name in the store; ``created_at`` is seconds since 1970."""

    document_id: _DocumentId
    created_at: Moment


class DocumentSummary(StoredDocument, frozen=True, kw_only=True):
    """A stored document in short.

    Attributes:
        num_chunks: that it was cut into.
    """

    num_chunks: _Count


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A whole document, without its vectors."""

    summary: DocumentSummary
    chunks: tuple[Chunk, ...]


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """A document that is stored, whatever happens next.

    Attributes:
        is_new: none of this name and content was there.
    """

    summary: DocumentSummary
    is_new: bool


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk that a search has found.

    Attributes:
        document_name: of the document that it is from.
        document_metadata: of that document.
        score: greater is better; BM25 where words were searched, else the cosine, -1 to 1.
    """

    chunk: Chunk
    document_name: str
    document_metadata: dict[str, Any]
    score: float


class DocumentStore(Protocol):
    """Keeps documents, each for one owner; nobody else can read it, or learn that it is there.

    Every call may raise StorageError when the disk fails, StorageBusyError when another process
    writes for too long, StorageUnavailableError when a database cannot be reached, and
    QueueFullError when too many wait.
    """

    @property
    def failure(self) -> str | None:
        """Why documents cannot be stored now, as far as the last calls have shown; else None."""

    async def add(
        self,
        owner: str,
        document: NewDocument,
        chunks: Sequence[Passage],
        vectors: NDArray[np.float32] | None,
    ) -> Added:
        """Store a document, all or nothing; when this returns, it is on the disk.

        One of the same name and content is replaced, and keeps its ``document_id``.

        Args:
            owner: whose it is.
            document: what it is.
            chunks: its parts, in their order.
            vectors: of the chunks [number of chunks, dimensions], of any length; None for none.

        Raises:
            InvalidValueError: its name is empty or too long.
            DocumentLimitError: it is too large, or the owner has too much; says what is allowed.
            ValueError: vectors are not one for each chunk, or none although a model is named.
        """

    async def find_same(self, owner: str, name: str, digest: str) -> DocumentSummary | None:
        """Return the document of this name and content, if the owner has it."""

    async def search_words(self, owner: str, query: str, limit: int) -> tuple[Found, ...]:
        """Return the chunks whose text or heading has words of the query, best first.

        Words count in any form that the English stemmer brings together; Chinese, Japanese and
        Korean text is searched by pairs of characters. Every text is a query; one without words
        finds nothing.

        Source: Robertson and Zaragoza, The Probabilistic Relevance Framework (2009), as SQLite's
        FTS5 computes it, or its weights alone (tsvector_index); pairs as in Lucene's CJKAnalyzer.
        """

    async def search_vectors(
        self, owner: str, vector: NDArray[np.float32], embedding_model: str, limit: int
    ) -> tuple[Found, ...]:
        """Return the chunks whose vectors of this model are nearest by cosine, best first.

        Args:
            owner: whose documents.
            vector: of the query [dimensions], of any length.
            embedding_model: which made it.
            limit: most chunks.
        """

    async def has_documents(self, owner: str) -> bool:
        """Say whether the owner has any."""

    async def list_documents(
        self, owner: str, *, limit: int, offset: int = 0
    ) -> tuple[DocumentSummary, ...]:
        """Return so many documents after ``offset``, the newest first."""

    async def read(self, owner: str, document_id: str) -> Document:
        """Return a document with its chunks; raises DocumentNotFoundError."""

    async def delete(self, owner: str, document_id: str) -> None:
        """Forget a document; raises DocumentNotFoundError."""

    def export(self, owner: str) -> AsyncIterator[bytes]:
        """Yield the documents that an owner has now, with their vectors, as JSON lines."""

    async def import_lines(self, owner: str, lines: Iterable[bytes]) -> ImportReport:
        """Take what :meth:`export` gave, all or nothing; the owner may be another one.

        Documents whose name and content are there already stay as they are. The lines are read in
        a thread, before anything is written.

        Raises:
            InvalidValueError: a line is no document; says which.
            DocumentLimitError: these are too many.
        """


def new_document_id() -> str:
    """Return a name that no document has."""
    return f"document-{uuid.uuid4().hex}"

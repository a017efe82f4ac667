"""What is sent to and answered by /api/rag/upload, /api/rag/documents and their import."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mm_orch.documents.chunking import MIN_CHUNK_SIZE
from mm_orch.documents.sizes import DEFAULT_CHUNK_SIZE, DEFAULT_OVERLAP, MAX_CHUNK_SIZE
from mm_orch.storage.documents import MAX_NAME_CHARS

DEFAULT_NAME = "text.txt"
# Of a JSON text; what is longer than is read is told of when it is read.
Size = Annotated[int, Field(ge=MIN_CHUNK_SIZE, le=MAX_CHUNK_SIZE)]
Overlap = Annotated[int, Field(ge=0, le=MAX_CHUNK_SIZE // 2)]


class _Sizes(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    metadata: dict[str, Any] | None = Field(
        default=None, description="Told wherever the document is cited."
    )
    chunk_size: Size | None = Field(
        default=None,
        description=f"Most tokens of a chunk, with its headings; {DEFAULT_CHUNK_SIZE} by default,"
        " and never more than the embedding model takes.",
    )
    chunk_overlap: Overlap | None = Field(
        default=None,
        description=f"Most tokens that a chunk repeats of the one before; {DEFAULT_OVERLAP} by"
        " default, and never more than half of chunk_size.",
    )


class TextUpload(_Sizes):
    """A text that is to be stored as a document."""

    content: str = Field(min_length=1, description="The text.")
    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)] | None = Field(
        default=None,
        description=f"The file's name, which says by its ending whether the text is Markdown;"
        f" {DEFAULT_NAME} by default.",
    )


class FormFields(_Sizes):
    """What a form has beside the file, read as JSON."""


class UploadAnswer(BaseModel):
    """The stored document.

    ``status`` is stored, or known, where it was there already, or replaced, where it was there and
    was cut or embedded otherwise or had other metadata. ``embedding_model`` is null, and ``note``
    says so, where chunks have no vectors and are found by their words alone.
    """

    document_id: str
    chunks_count: int
    status: Literal["stored", "replaced", "known"]
    embedding_model: str | None
    note: str | None


class DocumentAnswer(BaseModel):
    """A stored document in short; ``created_at`` is in seconds since 1970."""

    document_id: str
    name: str
    media_type: str
    size_bytes: int
    chunks_count: int
    chunk_size: int
    chunk_overlap: int
    embedding_model: str | None
    created_at: float
    metadata: dict[str, Any]


class DocumentList(BaseModel):
    """The caller's documents, the newest first."""

    documents: list[DocumentAnswer]


class ChunkAnswer(BaseModel):
    """A part of a document: where it stands in the text, and under which headings."""

    content: str
    heading: str
    start: int
    end: int
    page: int | None


class WholeDocumentAnswer(DocumentAnswer):
    """A document with its chunks."""

    chunks: list[ChunkAnswer]


class ForgottenDocument(BaseModel):
    """The document is no longer there."""

    document_id: str
    status: Literal["deleted"]


class DocumentImportAnswer(BaseModel):
    """Documents that are new, and those that were there already."""

    documents_added: int
    documents_known: int

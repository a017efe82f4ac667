"""Documents as JSON lines: a head that names the format, then one document a line, with vectors.

Vectors are what is dear to make again, and whoever imports may have another embedding model: so
they travel along, as little-endian float32 in base64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from mm_orch.core.errors import DocumentLimitError, InvalidValueError
from mm_orch.storage.documents import (
    MAX_CHUNKS,
    MAX_DOCUMENT_BYTES,
    MAX_METADATA_BYTES,
    MAX_NAME_CHARS,
    NewDocument,
    Passage,
    StoredDocument,
)
from mm_orch.storage.line_format import LineFormat, as_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

_FORMAT = LineFormat("muai-documents", 1, "document")
MIN_IMPORT_BYTES = MAX_DOCUMENT_BYTES + 1024
"""Whoever takes imports of so many bytes, with the head, can take every stored document."""
VECTOR_DTYPE = np.dtype("<f4")


class PassageLine(Passage, frozen=True, kw_only=True):
    """A passage and its vector of length 1, where it has one."""

    vector: bytes | None = None


class DocumentLine(StoredDocument, frozen=True, kw_only=True):
    """A whole document as it is stored."""

    chunks: tuple[PassageLine, ...]


class ReadDocument(NamedTuple):
    """A document that may be stored, and the bytes of its line."""

    line: DocumentLine
    num_bytes: int


def make_head() -> bytes:
    """Return the first line of an export."""
    return _FORMAT.make_head()


def make_line(line: DocumentLine) -> bytes:
    """Return the line of a document."""
    return as_line(line)


def make_document(
    document: NewDocument,
    passages: Sequence[Passage],
    vectors: NDArray[np.float32] | None,
    *,
    document_id: str,
    created_at: float,
) -> ReadDocument:
    """Put a document together as it is stored, its vectors brought to length 1.

    Raises:
        InvalidValueError: its name is empty or too long.
        DocumentLimitError: it is too large.
        ValueError: vectors are not one for each passage, or none although a model is named.
    """
    if not 0 < len(document.name) <= MAX_NAME_CHARS:
        raise InvalidValueError(
            f"A document's name has {len(document.name)} characters; allowed: 1 to"
            f" {MAX_NAME_CHARS}.",
            param="name",
        )
    if (vectors is None) != (document.embedding_model is None):
        raise ValueError("vectors and the model that made them go together")
    written = [None] * len(passages) if vectors is None else _write(vectors)
    line = DocumentLine(
        **{name: getattr(document, name) for name in NewDocument.__struct_fields__},
        document_id=document_id,
        created_at=created_at,
        chunks=tuple(
            PassageLine(text=one.text, heading=one.heading, metadata=one.metadata, vector=vector)
            for one, vector in zip(passages, written, strict=True)
        ),
    )
    return _measure(line, f"The document {document.name!r}")


def read_lines(lines: Iterable[bytes]) -> Iterator[ReadDocument]:
    """Yield the documents of an export.

    Raises:
        InvalidValueError: the head is another format's, or a line is no document; says which.
        DocumentLimitError: a document is too large.
    """
    for number, line in _FORMAT.read(lines, DocumentLine, max_line_bytes=MAX_DOCUMENT_BYTES):
        fault = _find_fault(line)
        if fault:
            raise InvalidValueError(f"Line {number} is no document: {fault}.")
        yield _measure(line, f"The document of line {number}")


def as_vector(vector: NDArray[np.float32]) -> bytes:
    """Return a vector [dimensions] as it is stored: of length 1, or of zeros."""
    [written] = _write(vector[np.newaxis])
    return written


def _write(vectors: NDArray[np.float32]) -> list[bytes]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    normalized = vectors / np.where(lengths > 0, lengths, 1)
    return [row.tobytes() for row in normalized.astype(VECTOR_DTYPE)]


def _measure(line: DocumentLine, what: str) -> ReadDocument:
    """Refuse what is too large; ``what`` names it."""
    num_chunks = len(line.chunks)
    if num_chunks > MAX_CHUNKS:
        raise DocumentLimitError(
            f"{what} has {num_chunks} chunks; at most {MAX_CHUNKS} are stored.",
            remedy="Raise chunk_size, or cut the file into several.",
        )
    num_metadata_bytes = len(msgspec.json.encode(line.metadata))
    if num_metadata_bytes > MAX_METADATA_BYTES:
        raise DocumentLimitError(
            f"{what} has metadata of {num_metadata_bytes} bytes as JSON; at most"
            f" {MAX_METADATA_BYTES} are stored.",
            param="metadata",
        )
    num_bytes = len(make_line(line))
    if num_bytes > MAX_DOCUMENT_BYTES:
        raise DocumentLimitError(
            f"{what} takes {num_bytes} bytes with its vectors; at most {MAX_DOCUMENT_BYTES} are"
            " stored.",
            remedy="Raise chunk_size, or cut the file into several.",
        )
    return ReadDocument(line, num_bytes)


def _find_fault(line: DocumentLine) -> str:
    """Return what a line says that cannot be; empty where there is nothing."""
    if any(one.metadata.end - one.metadata.start != len(one.text) for one in line.chunks):
        return "a chunk's text is not as long as its start and end say"
    vectors = [one.vector for one in line.chunks]
    if line.embedding_model is None:
        return "it has vectors of no model" if any(one is not None for one in vectors) else ""
    sizes = {len(one or b"") for one in vectors}
    if len(sizes) > 1 or sizes & {0} or any(size % VECTOR_DTYPE.itemsize for size in sizes):
        return "its vectors are not one for each chunk and of one length"
    found = np.frombuffer(b"".join(one for one in vectors if one), VECTOR_DTYPE)
    return "" if np.isfinite(found).all() else "a vector holds what is no number"

"""Documents as rows of tables: written, found and read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from mm_orch.core.errors import DocumentLimitError
from mm_orch.storage.document_lines import DocumentLine, PassageLine
from mm_orch.storage.documents import (
    MAX_DOCUMENTS,
    MAX_OWNER_BYTES,
    MAX_OWNER_CHUNKS,
    Chunk,
    ChunkMetadata,
    DocumentSummary,
    Found,
    StoredDocument,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mm_orch.storage.document_index import DocumentIndex
    from mm_orch.storage.document_lines import ReadDocument
    from mm_orch.storage.sql import SqlConnection

_FIELDS = StoredDocument.__struct_fields__
_COLUMNS = f"{', '.join(_FIELDS)}, num_chunks"
_CHUNK_COLUMNS = (
    "chunks.place, chunks.heading, chunks.content, chunks.begins_at, chunks.ends_at, chunks.page"
)


class Holding(NamedTuple):
    """What an owner has stored."""

    num_documents: int
    num_chunks: int
    num_bytes: int

    def plus(self, document: ReadDocument) -> Holding:
        """Return what it is with one more."""
        return Holding(
            self.num_documents + 1,
            self.num_chunks + len(document.line.chunks),
            self.num_bytes + document.num_bytes,
        )

    def check(self) -> None:
        """Refuse what is too much.

        Raises:
            DocumentLimitError: says what it would be, and what one owner may have.
        """
        limits = Holding(MAX_DOCUMENTS, MAX_OWNER_CHUNKS, MAX_OWNER_BYTES)
        if any(have > limit for have, limit in zip(self, limits, strict=True)):
            raise DocumentLimitError(
                f"With this the caller would have {self.num_documents} documents,"
                f" {self.num_chunks} chunks and {self.num_bytes} bytes; at most"
                f" {limits.num_documents}, {limits.num_chunks} and {limits.num_bytes} are stored"
                " for one caller.",
                remedy="Delete some documents.",
            )


def count(connection: SqlConnection, owner: str) -> Holding:
    """Return what an owner has."""
    row = connection.execute(
        "SELECT count(*), CAST(coalesce(sum(num_chunks), 0) AS BIGINT),"
        " CAST(coalesce(sum(num_stored_bytes), 0) AS BIGINT) FROM documents WHERE owner = ?",
        (owner,),
    ).fetchone()
    return Holding(*row)


def summary_of(line: DocumentLine) -> DocumentSummary:
    """Return a document in short."""
    fields = {name: getattr(line, name) for name in _FIELDS}
    return DocumentSummary(**fields, num_chunks=len(line.chunks))


def find(
    connection: SqlConnection, *, owner: str, document_id: str
) -> tuple[int, DocumentSummary] | None:
    """Return a document's number in its table and the document in short."""
    row = connection.execute(
        f"SELECT number, {_COLUMNS} FROM documents WHERE owner = ? AND document_id = ?",  # noqa: S608 - our own names
        (owner, document_id),
    ).fetchone()
    return None if row is None else (row[0], _summary(row[1:]))


def find_same(
    connection: SqlConnection, *, owner: str, name: str, digest: str
) -> DocumentSummary | None:
    """Return the owner's document of this name and content."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM documents WHERE owner = ? AND name = ? AND digest = ?",  # noqa: S608 - our own names
        (owner, name, digest),
    ).fetchone()
    return None if row is None else _summary(row)


def list_summaries(
    connection: SqlConnection, *, owner: str, limit: int, offset: int
) -> tuple[DocumentSummary, ...]:
    """Return so many after ``offset``, the newest first."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM documents WHERE owner = ?"  # noqa: S608 - our own names
        " ORDER BY created_at DESC, number DESC LIMIT ? OFFSET ?",
        (owner, limit, offset),
    )
    return tuple(map(_summary, found))


def insert(
    connection: SqlConnection,
    index: DocumentIndex,
    owner: str,
    line: DocumentLine,
    num_bytes: int,
) -> None:
    """Write a document that is not there."""
    fields = {name: getattr(line, name) for name in _FIELDS}
    fields["metadata"] = msgspec.json.encode(line.metadata).decode()
    values = (owner, *fields.values(), len(line.chunks), num_bytes)
    marks = ", ".join("?" * len(values))
    [[document]] = connection.execute(
        f"INSERT INTO documents (owner, {_COLUMNS}, num_stored_bytes) VALUES ({marks})"  # noqa: S608 - our own names
        " RETURNING number",
        values,
    ).fetchall()
    connection.executemany(
        index.insert_chunk,
        [
            {
                "document": document,
                "place": place,
                "heading": chunk.heading,
                "content": chunk.text,
                "begins_at": chunk.metadata.start,
                "ends_at": chunk.metadata.end,
                "page": chunk.metadata.page,
                **index.index(owner, chunk.content),
            }
            for place, chunk in enumerate(line.chunks)
        ],
    )
    connection.executemany(
        "INSERT INTO vectors (chunk, vector)"
        " SELECT number, :vector FROM chunks WHERE document = :document AND place = :place",
        [
            {"vector": chunk.vector, "document": document, "place": place}
            for place, chunk in enumerate(line.chunks)
            if chunk.vector is not None
        ],
    )


def chunks_of(connection: SqlConnection, number: int, document_id: str) -> Iterator[Chunk]:
    """Yield a document's chunks in their order."""
    found = connection.execute(
        f"SELECT {_CHUNK_COLUMNS} FROM chunks WHERE document = ? ORDER BY place",  # noqa: S608 - our own names
        (number,),
    )
    for row in found:
        yield _chunk(document_id, row)


def line_of(connection: SqlConnection, number: int, summary: DocumentSummary) -> DocumentLine:
    """Return a whole document, with vectors."""
    found = connection.execute(
        f"SELECT {_CHUNK_COLUMNS}, vectors.vector FROM chunks"  # noqa: S608 - our own names
        " LEFT JOIN vectors ON vectors.chunk = chunks.number"
        " WHERE chunks.document = ? ORDER BY chunks.place",
        (number,),
    )
    fields = {name: getattr(summary, name) for name in _FIELDS}
    return DocumentLine(**fields, chunks=tuple(_passage_line(row) for row in found))


def find_chunks(
    connection: SqlConnection, search: str, values: Mapping[str, object]
) -> tuple[Found, ...]:
    """Return what a search finds of the owner's, the greatest score first.

    Args:
        connection: to the database.
        search: a statement that gives ``chunk`` and ``score``; what is said of the chunks is read
            of those alone that it gives.
        values: of the statement, ``owner`` among them.
    """
    found = connection.execute(
        f"SELECT documents.document_id, {_CHUNK_COLUMNS}, documents.name, documents.metadata,"  # noqa: S608 - our own words
        f" found.score FROM ({search}) AS found JOIN chunks ON chunks.number = found.chunk"
        " JOIN documents ON documents.number = chunks.document WHERE documents.owner = :owner"
        " ORDER BY found.score DESC, chunks.number",
        values,
    )
    return tuple(
        Found(
            chunk=_chunk(document_id, chunk),
            document_name=name,
            document_metadata=msgspec.json.decode(metadata),
            score=score,
        )
        for document_id, *chunk, name, metadata, score in found
    )


def _summary(row: tuple[object, ...]) -> DocumentSummary:
    fields = dict(zip((*_FIELDS, "num_chunks"), row, strict=True))
    fields["metadata"] = msgspec.json.decode(str(fields["metadata"]))
    return DocumentSummary(**fields)  # type: ignore[arg-type]  # as the schema says


def _chunk(document_id: str, row: list[object] | tuple[object, ...]) -> Chunk:
    place, heading, text, start, end, page = row
    where = ChunkMetadata(start=start, end=end, page=page)  # type: ignore[arg-type]  # as the schema says
    return Chunk(document_id=document_id, number=place, heading=heading, text=text, metadata=where)  # type: ignore[arg-type]


def _passage_line(row: tuple[object, ...]) -> PassageLine:
    *chunk, vector = row
    one = _chunk("", chunk)
    return PassageLine(text=one.text, heading=one.heading, metadata=one.metadata, vector=vector)  # type: ignore[arg-type]

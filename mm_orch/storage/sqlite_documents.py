"""Documents in a SQLite database; implements storage.documents.DocumentStore."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from mm_orch.core.errors import DocumentNotFoundError, InvalidValueError
from mm_orch.storage import document_rows as rows
from mm_orch.storage.cosine import ensure_cosine
from mm_orch.storage.document_lines import (
    as_vector,
    make_document,
    make_head,
    make_line,
    read_lines,
)
from mm_orch.storage.documents import (
    MAX_DOCUMENTS,
    Added,
    Document,
    new_document_id,
)
from mm_orch.storage.sessions import ImportReport
from mm_orch.storage.word_search import make_match

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from mm_orch.storage.database import Database
    from mm_orch.storage.document_lines import DocumentLine, ReadDocument
    from mm_orch.storage.documents import DocumentSummary, Found, NewDocument, Passage

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


class SqliteDocuments:
    """The documents of all owners; every statement that reads or changes one names its owner.

    Args:
        database: of the newest version.
        now: seconds since 1970.
    """

    def __init__(self, database: Database, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now

    @property
    def failure(self) -> str | None:
        """See DocumentStore."""
        return self._database.failure

    async def add(
        self,
        owner: str,
        document: NewDocument,
        chunks: Sequence[Passage],
        vectors: NDArray[np.float32] | None,
    ) -> Added:
        """See DocumentStore."""
        # Writing vectors takes long: elsewhere than on the event loop, or in the storing thread.
        made = await asyncio.to_thread(
            make_document,
            document,
            chunks,
            vectors,
            document_id=new_document_id(),
            created_at=self._now(),
        )
        return await self._database.write(partial(_add, owner=owner, made=made))

    async def find_same(self, owner: str, name: str, digest: str) -> DocumentSummary | None:
        """See DocumentStore."""
        return await self._database.read(
            partial(rows.find_same, owner=owner, name=name, digest=digest)
        )

    async def search_words(self, owner: str, query: str, limit: int) -> tuple[Found, ...]:
        """See DocumentStore."""
        match = make_match(owner, query)
        if match is None:
            return ()
        values = {"match": match, "heading_weight": _HEADING_WEIGHT}
        return await self._search(_BY_WORDS, owner, limit, values)

    async def search_vectors(
        self, owner: str, vector: NDArray[np.float32], embedding_model: str, limit: int
    ) -> tuple[Found, ...]:
        """See DocumentStore."""
        values = {"vector": as_vector(vector), "model": embedding_model}
        return await self._search(_BY_VECTORS, owner, limit, values)

    async def has_documents(self, owner: str) -> bool:
        """See DocumentStore."""
        return bool(
            await self._database.read(partial(rows.list_summaries, owner=owner, limit=1, offset=0))
        )

    async def list_documents(
        self, owner: str, *, limit: int, offset: int = 0
    ) -> tuple[DocumentSummary, ...]:
        """See DocumentStore."""
        return await self._database.read_long(
            partial(rows.list_summaries, owner=owner, limit=limit, offset=offset)
        )

    async def read(self, owner: str, document_id: str) -> Document:
        """See DocumentStore."""
        return await self._database.read_long(partial(_read, owner=owner, document_id=document_id))

    async def delete(self, owner: str, document_id: str) -> None:
        """See DocumentStore."""
        await self._database.write(partial(_delete, owner=owner, document_id=document_id))

    async def export(self, owner: str) -> AsyncIterator[bytes]:
        """See DocumentStore."""
        # Before the first line, so that a file that cannot be read is told of in its place.
        summaries = await self.list_documents(owner, limit=MAX_DOCUMENTS)
        yield make_head()
        for summary in summaries:
            try:
                line = await self._database.read_long(
                    partial(_read_line, owner=owner, document_id=summary.document_id)
                )
            except DocumentNotFoundError:
                # Deleted since it was listed.
                continue
            yield await asyncio.to_thread(make_line, line)

    async def import_lines(self, owner: str, lines: Iterable[bytes]) -> ImportReport:
        """See DocumentStore."""
        # Elsewhere than in the one thread that all writes wait for.
        documents = await asyncio.to_thread(lambda: list(read_lines(lines)))
        return await self._database.write(partial(_import, owner=owner, documents=documents))

    async def _search(
        self, search: str, owner: str, limit: int, values: Mapping[str, object]
    ) -> tuple[Found, ...]:
        asked = {**values, "owner": owner, "limit": limit}

        def work(connection: sqlite3.Connection) -> tuple[Found, ...]:
            if search is _BY_VECTORS:
                ensure_cosine(connection)
            return rows.find_chunks(connection, search, asked)

        return await self._database.read_long(work)


def _add(connection: sqlite3.Connection, *, owner: str, made: ReadDocument) -> Added:
    line = made.line
    known = rows.find_same(connection, owner=owner, name=line.name, digest=line.digest)
    if known is not None:
        line = msgspec.structs.replace(line, document_id=known.document_id)
        _delete(connection, owner=owner, document_id=known.document_id)
    rows.count(connection, owner).plus(made).check()
    rows.insert(connection, owner, line, made.num_bytes)
    return Added(summary=rows.summary_of(line), is_new=known is None)


def _read(connection: sqlite3.Connection, *, owner: str, document_id: str) -> Document:
    number, summary = _find(connection, owner, document_id)
    return Document(summary=summary, chunks=tuple(rows.chunks_of(connection, number, document_id)))


def _read_line(connection: sqlite3.Connection, *, owner: str, document_id: str) -> DocumentLine:
    number, summary = _find(connection, owner, document_id)
    return rows.line_of(connection, number, summary)


def _delete(connection: sqlite3.Connection, *, owner: str, document_id: str) -> None:
    number, _ = _find(connection, owner, document_id)
    # Its chunks go with it, and their vectors and words with them, as the schema says.
    connection.execute("DELETE FROM documents WHERE number = ?", (number,))


def _import(
    connection: sqlite3.Connection, *, owner: str, documents: Iterable[ReadDocument]
) -> ImportReport:
    num_added = num_known = 0
    total = rows.count(connection, owner)
    for one in documents:
        line = one.line
        if rows.find_same(connection, owner=owner, name=line.name, digest=line.digest):
            num_known += 1
            continue
        if rows.find(connection, owner=owner, document_id=line.document_id):
            raise InvalidValueError(
                f"The document {line.document_id} is there already, with other content; nothing"
                " was imported.",
                remedy="Delete one of the two.",
            )
        total = total.plus(one)
        total.check()
        rows.insert(connection, owner, line, one.num_bytes)
        num_added += 1
    return ImportReport(num_added=num_added, num_known=num_known)


def _find(
    connection: sqlite3.Connection, owner: str, document_id: str
) -> tuple[int, DocumentSummary]:
    found = rows.find(connection, owner=owner, document_id=document_id)
    if found is None:
        raise DocumentNotFoundError(f"There is no document {document_id!r}.", param="document_id")
    return found

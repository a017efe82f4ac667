"""Documents in a database; implements storage.documents.DocumentStore."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from mm_orch.core.errors import DocumentNotFoundError, InvalidValueError
from mm_orch.storage import document_rows as rows
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

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from mm_orch.storage.document_index import DocumentIndex
    from mm_orch.storage.document_lines import DocumentLine, ReadDocument
    from mm_orch.storage.documents import DocumentSummary, Found, NewDocument, Passage
    from mm_orch.storage.sql import SqlConnection, SqlDatabase


class SqlDocuments:
    """The documents of all owners; every statement that reads or changes one names its owner.

    Args:
        database: of the newest version.
        index: finds chunks in it.
        now: seconds since 1970.
    """

    def __init__(
        self, database: SqlDatabase, index: DocumentIndex, now: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._index = index
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
        # Writing vectors takes long: elsewhere than on the event loop, or in the storing threads.
        made = await asyncio.to_thread(
            make_document,
            document,
            chunks,
            vectors,
            document_id=new_document_id(),
            created_at=self._now(),
        )
        return await self._database.write(
            partial(_add, index=self._index, owner=owner, made=made), owner=owner
        )

    async def find_same(self, owner: str, name: str, digest: str) -> DocumentSummary | None:
        """See DocumentStore."""
        return await self._database.read(
            partial(rows.find_same, owner=owner, name=name, digest=digest)
        )

    async def search_words(self, owner: str, query: str, limit: int) -> tuple[Found, ...]:
        """See DocumentStore."""
        search = self._index.find_words(owner, query, limit)
        return () if search is None else await self._database.read_long(search)

    async def search_vectors(
        self, owner: str, vector: NDArray[np.float32], embedding_model: str, limit: int
    ) -> tuple[Found, ...]:
        """See DocumentStore."""
        search = self._index.find_vectors(owner, as_vector(vector), embedding_model, limit)
        return await self._database.read_long(search)

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
        await self._database.write(
            partial(_delete, owner=owner, document_id=document_id), owner=owner
        )

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
        # Elsewhere than in the threads that all writes wait for.
        documents = await asyncio.to_thread(lambda: list(read_lines(lines)))
        return await self._database.write(
            partial(_import, index=self._index, owner=owner, documents=documents), owner=owner
        )


def _add(
    connection: SqlConnection, *, index: DocumentIndex, owner: str, made: ReadDocument
) -> Added:
    line = made.line
    known = rows.find_same(connection, owner=owner, name=line.name, digest=line.digest)
    if known is not None:
        line = msgspec.structs.replace(line, document_id=known.document_id)
        _delete(connection, owner=owner, document_id=known.document_id)
    rows.count(connection, owner).plus(made).check()
    rows.insert(connection, index, owner, line, made.num_bytes)
    return Added(summary=rows.summary_of(line), is_new=known is None)


def _read(connection: SqlConnection, *, owner: str, document_id: str) -> Document:
    number, summary = _find(connection, owner, document_id)
    return Document(summary=summary, chunks=tuple(rows.chunks_of(connection, number, document_id)))


def _read_line(connection: SqlConnection, *, owner: str, document_id: str) -> DocumentLine:
    number, summary = _find(connection, owner, document_id)
    return rows.line_of(connection, number, summary)


def _delete(connection: SqlConnection, *, owner: str, document_id: str) -> None:
    number, _ = _find(connection, owner, document_id)
    # Its chunks go with it, and their vectors and words with them, as the schema says.
    connection.execute("DELETE FROM documents WHERE number = ?", (number,))


def _import(
    connection: SqlConnection,
    *,
    index: DocumentIndex,
    owner: str,
    documents: Iterable[ReadDocument],
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
        rows.insert(connection, index, owner, line, one.num_bytes)
        num_added += 1
    return ImportReport(num_added=num_added, num_known=num_known)


def _find(connection: SqlConnection, owner: str, document_id: str) -> tuple[int, DocumentSummary]:
    found = rows.find(connection, owner=owner, document_id=document_id)
    if found is None:
        raise DocumentNotFoundError(f"There is no document {document_id!r}.", param="document_id")
    return found

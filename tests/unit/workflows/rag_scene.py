"""Two stored documents, an embedder that knows words, and what breaks on purpose."""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mm_orch.orchestration.generation import Embeddings
from mm_orch.retrieval.terms import terms_of
from mm_orch.storage.documents import ChunkMetadata, Passage
from tests.unit.storage.document_scene import MODEL, new_document

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mm_orch.core.embedding import EmbeddingRequest
    from mm_orch.storage.documents import DocumentStore, Found
    from mm_orch.storage.sql_documents import SqlDocuments

OWNER = "name:alice"
LIGHT = "Cape Merrow Light"
LIT = "The light was first lit on 3 October 1834 by the keeper."
STEPS = "The tower has 201 steps and no lift."
WELL = "The well of the brewery is 61 metres deep."
QUESTION = "When was Cape Merrow Light first lit?"
_DIMENSIONS = 64


@dataclass
class BagEmbedder:
    """Gives texts that have words in common vectors that are near.

    Attributes:
        refusals: raised instead of answering, by number of the request from 0.
        held: numbers of the requests that are never answered.
        requests: all that were asked for.
    """

    refusals: dict[int, Exception] = field(default_factory=dict)
    held: frozenset[int] = frozenset()
    requests: list[EmbeddingRequest] = field(default_factory=list)

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        number = len(self.requests)
        self.requests.append(request)
        if number in self.held:
            await asyncio.Event().wait()
        if number in self.refusals:
            raise self.refusals[number]
        vectors = np.array([vector_of(str(text)) for text in request.inputs], dtype=np.float32)
        return Embeddings(vectors=vectors, model=MODEL, engine="bag", num_tokens=1)


def vector_of(text: str) -> NDArray[np.float32]:
    vector = np.zeros(_DIMENSIONS, dtype=np.float32)
    for term in terms_of(text):
        vector[zlib.crc32(term.encode()) % _DIMENSIONS] += 1
    return vector / max(1e-9, float(np.linalg.norm(vector)))


class BrokenDocuments:
    """A store some of whose calls fail; the rest are those of the store within."""

    def __init__(self, store: DocumentStore, failing: dict[str, Exception]) -> None:
        self._store = store
        self._failing = failing

    def __getattr__(self, name: str) -> Callable[..., object]:
        if name in self._failing:
            return self._fail(self._failing[name])
        found: Callable[..., object] = getattr(self._store, name)
        return found

    def _fail(self, error: Exception) -> Callable[..., object]:
        async def fail(*_: object, **__: object) -> tuple[Found, ...]:
            raise error

        return fail


async def store_light(store: SqlDocuments, owner: str = OWNER) -> None:
    """Store a document on the lighthouse and one on a brewery."""
    await _store(store, owner, "light.md", LIGHT, [LIT, STEPS])
    await _store(store, owner, "brewery.md", "Hearn's Brewery", [WELL])


async def _store(
    store: SqlDocuments, owner: str, name: str, heading: str, texts: list[str]
) -> None:
    passages, start = [], 0
    for text in texts:
        where = ChunkMetadata(start=start, end=start + len(text))
        passages.append(Passage(text=text, heading=heading, metadata=where))
        start += len(text) + 1
    await store.add(
        owner,
        new_document(name, "\n".join(texts), embedding_model=MODEL, metadata={"shelf": 7}),
        passages,
        np.array([vector_of(one.content) for one in passages], dtype=np.float32),
    )

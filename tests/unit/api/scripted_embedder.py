"""An embedder whose vectors say what they were made of: the API's neighbour."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mm_orch.orchestration.generation import Embeddings

if TYPE_CHECKING:
    from mm_orch.core.embedding import EmbeddingRequest


@dataclass
class WordMeter:
    """Takes each word for a token."""

    model: str
    context_length: int = 256

    def count(self, text: str) -> int:
        return len(text.split())


@dataclass
class ScriptedEmbedder:
    """Gives text number i the vector (i, length of the input, 1/3).

    Attributes:
        refusal: raised instead of answering.
        is_holding: never answer.
        requests: all that were asked for.
        has_begun: set by the first request.
        has_been_cancelled: set when a held request is given up.
    """

    refusal: Exception | None = None
    is_holding: bool = False
    requests: list[EmbeddingRequest] = field(default_factory=list)
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)
    has_been_cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def find_meter(self, model: str | None) -> WordMeter:
        return WordMeter(model or "vectors")

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        self.requests.append(request)
        self.has_begun.set()
        if self.refusal is not None:
            raise self.refusal
        if self.is_holding:
            try:
                await asyncio.Event().wait()
            finally:
                self.has_been_cancelled.set()
        rows = [(index, len(one), 1 / 3) for index, one in enumerate(request.inputs)]
        return Embeddings(
            vectors=np.array(rows, dtype=np.float32),
            model="vectors",
            engine="scripted",
            num_tokens=sum(map(len, request.inputs)),
        )

"""Chunks as a search finds them."""

from __future__ import annotations

from mm_orch.storage.documents import Chunk, ChunkMetadata, Found


def found(
    text: str, score: float, *, heading: str = "", document: str = "a", number: int = 0
) -> Found:
    chunk = Chunk(
        text=text,
        heading=heading,
        metadata=ChunkMetadata(start=0, end=len(text)),
        document_id=document,
        number=number,
    )
    return Found(chunk=chunk, document_name=document, document_metadata={}, score=score)

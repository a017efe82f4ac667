"""The paths of stored documents: list, show, forget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import Query
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation
from starlette.responses import JSONResponse, Response

from mm_orch.api.callers import owner_of
from mm_orch.api.documentation import add_route
from mm_orch.api.schemas.documents import DocumentList, ForgottenDocument, WholeDocumentAnswer
from mm_orch.api.sessions import answer_with
from mm_orch.storage.documents import MAX_DOCUMENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import FastAPI

    from mm_orch.api.formats import Json
    from mm_orch.documents.library import DocumentLibrary
    from mm_orch.storage.documents import Document, DocumentSummary

_MAX_LISTED = 1000
_Limit = Annotated[int, Query(ge=1, le=_MAX_LISTED)]
_Offset = Annotated[int, Query(ge=0, le=MAX_DOCUMENTS)]


def add_document_routes(app: FastAPI, library: DocumentLibrary) -> None:
    """Add /api/rag/documents, and GET and DELETE /api/rag/documents/{document_id}."""

    async def list_documents(
        request: Request, limit: _Limit = 100, offset: _Offset = 0
    ) -> Response:
        """List the caller's documents, the newest first."""
        found = await library.store.list_documents(owner_of(request), limit=limit, offset=offset)
        return await answer_with(_as_list, found)

    async def show_document(request: Request, document_id: str) -> Response:
        """Give one document with its chunks."""
        document = await library.store.read(owner_of(request), document_id)
        return await answer_with(_as_whole, document)

    async def delete_document(request: Request, document_id: str) -> JSONResponse:
        """Forget one document."""
        await library.store.delete(owner_of(request), document_id)
        return JSONResponse({"document_id": document_id, "status": "deleted"})

    all_, one = "/api/rag/documents", "/api/rag/documents/{document_id}"
    add_route(app, "GET", all_, list_documents, DocumentList, 400, 401, 404, 500, 503)
    add_route(app, "GET", one, show_document, WholeDocumentAnswer, 401, 404, 500, 503)
    add_route(app, "DELETE", one, delete_document, ForgottenDocument, 401, 404, 500, 503)


def _as_list(summaries: Sequence[DocumentSummary]) -> Json:
    return {"documents": [_in_short(one) for one in summaries]}


def _in_short(summary: DocumentSummary) -> Json:
    return {
        "document_id": summary.document_id,
        "name": summary.name,
        "media_type": summary.media_type,
        "size_bytes": summary.num_bytes,
        "chunks_count": summary.num_chunks,
        "chunk_size": summary.chunk_size,
        "chunk_overlap": summary.chunk_overlap,
        "embedding_model": summary.embedding_model,
        "created_at": summary.created_at,
        "metadata": summary.metadata,
    }


def _as_whole(document: Document) -> Json:
    chunks = [
        {
            "content": chunk.text,
            "heading": chunk.heading,
            "start": chunk.metadata.start,
            "end": chunk.metadata.end,
            "page": chunk.metadata.page,
        }
        for chunk in document.chunks
    ]
    return {**_in_short(document.summary), "chunks": chunks}

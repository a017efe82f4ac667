"""The path that embeds texts."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation
from starlette.responses import Response

from mm_orch.api.bodies import read_body
from mm_orch.api.callers import allowed_priority, caller_of
from mm_orch.api.documentation import body_of, refusals
from mm_orch.api.event_stream import receive_nothing
from mm_orch.api.fallbacks import headers_of, note_on
from mm_orch.api.schemas.embedding import EmbeddingsAnswer, EmbeddingsRequest
from mm_orch.api.watched_response import WatchedResponse

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Scope, Send

    from mm_orch.api.settings import ApiSettings
    from mm_orch.core.embedding import EmbeddingRequest
    from mm_orch.orchestration.generation import Embedder, Embeddings

_encoder = msgspec.json.Encoder()


class EmbeddingResponse(WatchedResponse):
    """The answer to one request to embed texts."""

    media_type = "application/json"

    def __init__(
        self,
        embedder: Embedder,
        request: EmbeddingRequest,
        *,
        is_base64: bool,
        send_timeout_s: float,
    ) -> None:
        super().__init__(send_timeout_s)
        self._embedder = embedder
        self._request = request
        self._is_base64 = is_base64

    async def _answer(self, scope: Scope, send: Send) -> None:
        embeddings = await self._embedder.embed(self._request)
        # Thousands of vectors take longer to write than the event loop should stand still.
        body = await asyncio.to_thread(_write, embeddings, is_base64=self._is_base64)
        response = Response(body, headers=headers_of([embeddings]), media_type=self.media_type)
        await response(scope, receive_nothing, send)


def add_embedding_route(app: FastAPI, embedder: Embedder, settings: ApiSettings) -> None:
    """Add POST /v1/embeddings."""

    async def embed(request: Request) -> EmbeddingResponse:
        body = await read_body(request, EmbeddingsRequest, timeout_s=settings.body_timeout_s)
        return EmbeddingResponse(
            embedder,
            msgspec.structs.replace(
                body.as_request(request.state.request_id),
                priority=allowed_priority(request, body.priority),
                caller=caller_of(request),
            ),
            is_base64=body.encoding_format == "base64",
            send_timeout_s=settings.send_timeout_s,
        )

    app.add_api_route(
        "/v1/embeddings",
        embed,
        methods=["POST"],
        summary="Make vectors of texts",
        response_model=None,
        responses={
            200: {"model": EmbeddingsAnswer, "description": "The vectors."},
            **refusals(400, 401, 404, 413, 429, 500, 503, 504),
        },
        openapi_extra=body_of(EmbeddingsRequest),
    )


def _write(embeddings: Embeddings, *, is_base64: bool) -> bytes:
    written: list[Any]
    if is_base64:
        rows = embeddings.vectors.astype("<f4")
        written = [base64.b64encode(row.tobytes()).decode() for row in rows]
    else:
        written = embeddings.vectors.tolist()
    usage = {"prompt_tokens": embeddings.num_tokens, "total_tokens": embeddings.num_tokens}
    return _encoder.encode(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": vector}
                for index, vector in enumerate(written)
            ],
            "model": embeddings.model,
            "usage": usage,
            **note_on([embeddings]),
        }
    )

"""The two paths that generate: chats and completions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation

from mm_orch.api.answer import GenerationResponse
from mm_orch.api.bodies import read_body
from mm_orch.api.conversations import qualify
from mm_orch.api.documentation import answer_of, body_of, refusals
from mm_orch.api.formats import ChatFormat, CompletionFormat
from mm_orch.api.schemas.answers import (
    ChatAnswer,
    ChatChunk,
    CompletionAnswer,
    CompletionChunk,
)
from mm_orch.api.schemas.chat import ChatRequest
from mm_orch.api.schemas.completion import CompletionRequest
from mm_orch.core.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

    from mm_orch.api.formats import AnswerFormat
    from mm_orch.api.settings import ApiSettings
    from mm_orch.orchestration.generation import Generator


def add_generating_routes(app: FastAPI, generator: Generator, settings: ApiSettings) -> None:
    """Add POST /v1/chat/completions and POST /v1/completions."""

    async def answer_chat(request: Request) -> GenerationResponse:
        body = await read_body(request, ChatRequest, timeout_s=settings.body_timeout_s)
        return respond(request, body, ChatFormat)

    async def answer_completion(request: Request) -> GenerationResponse:
        body = await read_body(request, CompletionRequest, timeout_s=settings.body_timeout_s)
        return respond(request, body, CompletionFormat)

    def respond(
        request: Request,
        body: ChatRequest | CompletionRequest,
        make_format: Callable[[str], AnswerFormat],
    ) -> GenerationResponse:
        conversation_id = qualify(request, body.conversation_id)
        asked = body.as_requests(request.state.request_id)
        requests = [replace(one, conversation_id=conversation_id) for one in asked]
        _check(body, num_prompts=len(requests), settings=settings)
        return GenerationResponse(
            generator,
            requests,
            make_format=make_format,
            is_stream=bool(body.stream),
            wants_usage_chunk=body.wants_usage_chunk,
            send_timeout_s=settings.send_timeout_s,
        )

    def add(path: str, endpoint: Callable[..., Any], summary: str, *schemas: type) -> None:
        request_schema, answer_schema, chunk_schema = schemas
        app.add_api_route(
            path,
            endpoint,
            methods=["POST"],
            summary=summary,
            response_model=None,
            responses={
                200: answer_of(answer_schema, chunk_schema),
                **refusals(400, 401, 404, 413, 500, 503, 504),
            },
            openapi_extra=body_of(request_schema),
        )

    add(
        "/v1/chat/completions",
        answer_chat,
        "Answer a conversation",
        ChatRequest,
        ChatAnswer,
        ChatChunk,
    )
    add(
        "/v1/completions",
        answer_completion,
        "Continue a text",
        CompletionRequest,
        CompletionAnswer,
        CompletionChunk,
    )


def _check(
    body: ChatRequest | CompletionRequest, *, num_prompts: int, settings: ApiSettings
) -> None:
    if body.stream_options is not None and not body.stream:
        raise InvalidValueError(
            "stream_options is set, which needs stream: true.", param="stream_options"
        )
    if num_prompts > settings.max_prompts:
        raise InvalidValueError(
            f"prompt holds {num_prompts} prompts; at most {settings.max_prompts} are taken at once"
            " (monitoring.server.queue_capacity).",
            param="prompt",
        )

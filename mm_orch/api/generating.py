"""The paths that generate: chats, completions and responses."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation

from mm_orch.api.answer import GenerationResponse
from mm_orch.api.bodies import read_body
from mm_orch.api.callers import allowed_priority, caller_of, owner_of
from mm_orch.api.conversations import qualify
from mm_orch.api.documentation import answer_of, body_of, refusals
from mm_orch.api.formats import ChatFormat, CompletionFormat
from mm_orch.api.responses_format import ResponsesFormat
from mm_orch.api.schemas.answers import (
    ChatAnswer,
    ChatChunk,
    CompletionAnswer,
    CompletionChunk,
)
from mm_orch.api.schemas.chat import ChatRequest
from mm_orch.api.schemas.completion import CompletionRequest
from mm_orch.api.schemas.response_answers import ResponseAnswer, ResponseEvent
from mm_orch.api.schemas.responses import ResponsesRequest
from mm_orch.core.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI
    from pydantic import BaseModel

    from mm_orch.api.formats import AnswerFormat
    from mm_orch.api.settings import ApiSettings
    from mm_orch.orchestration.generation import Generator

    GeneratingRequest = ChatRequest | CompletionRequest | ResponsesRequest


def add_generating_routes(app: FastAPI, generator: Generator, settings: ApiSettings) -> None:
    """Add POST /v1/chat/completions, /v1/completions and /v1/responses."""

    async def answer_chat(request: Request) -> GenerationResponse:
        body = await read_body(request, ChatRequest, timeout_s=settings.body_timeout_s)
        make_format = partial(ChatFormat, wants_usage=body.wants_usage_chunk)
        return _respond(request, body, make_format, generator, settings)

    async def answer_completion(request: Request) -> GenerationResponse:
        body = await read_body(request, CompletionRequest, timeout_s=settings.body_timeout_s)
        make_format = partial(CompletionFormat, wants_usage=body.wants_usage_chunk)
        return _respond(request, body, make_format, generator, settings)

    async def answer_response(request: Request) -> GenerationResponse:
        body = await read_body(request, ResponsesRequest, timeout_s=settings.body_timeout_s)
        make_format = partial(ResponsesFormat, body=body)
        return _respond(request, body, make_format, generator, settings)

    paths: list[tuple[str, Callable[..., Any], str, type[BaseModel], dict[str, Any]]] = [
        (
            "/v1/chat/completions",
            answer_chat,
            "Answer a conversation",
            ChatRequest,
            answer_of(ChatAnswer, ChatChunk),
        ),
        (
            "/v1/completions",
            answer_completion,
            "Continue a text",
            CompletionRequest,
            answer_of(CompletionAnswer, CompletionChunk),
        ),
        (
            "/v1/responses",
            answer_response,
            "Answer a conversation, in OpenAI's newer words",
            ResponsesRequest,
            answer_of(ResponseAnswer, ResponseEvent, has_done=False),
        ),
    ]
    for path, endpoint, summary, schema, answer in paths:
        app.add_api_route(
            path,
            endpoint,
            methods=["POST"],
            summary=summary,
            response_model=None,
            responses={200: answer, **refusals(400, 401, 403, 404, 413, 429, 500, 503, 504)},
            openapi_extra=body_of(schema),
        )


def _respond(
    request: Request,
    body: GeneratingRequest,
    make_format: Callable[[str], AnswerFormat],
    generator: Generator,
    settings: ApiSettings,
) -> GenerationResponse:
    conversation_id = qualify(request, body.conversation_id)
    asked = body.as_requests(request.state.request_id)
    priority = allowed_priority(request, body.priority)
    requests = [
        replace(
            one,
            conversation_id=conversation_id,
            priority=priority,
            caller=caller_of(request),
            owner=owner_of(request),
        )
        for one in asked
    ]
    _check(body, num_prompts=len(requests), settings=settings)
    return GenerationResponse(
        generator,
        requests,
        make_format=make_format,
        is_stream=bool(body.stream),
        send_timeout_s=settings.send_timeout_s,
    )


def _check(body: GeneratingRequest, *, num_prompts: int, settings: ApiSettings) -> None:
    if body.stream_options is not None and not body.stream:
        raise InvalidValueError(
            "stream_options is set, which needs stream: true.", param="stream_options"
        )
    max_prompts = settings.find_max_prompts()
    if num_prompts > max_prompts:
        raise InvalidValueError(
            f"prompt holds {num_prompts} prompts; at most {max_prompts} are taken at once"
            " (monitoring.server.queue_capacity).",
            param="prompt",
        )

"""The native paths of workflows and of the conversations that they keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation
from starlette.responses import JSONResponse

from mm_orch.api.bodies import read_body
from mm_orch.api.callers import allowed_priority, caller_of, owner_of
from mm_orch.api.conversations import qualify
from mm_orch.api.documentation import add_route, answer_of, body_of, refusals
from mm_orch.api.native_words import native_words
from mm_orch.api.schemas.routing import RouteEvent
from mm_orch.api.schemas.workflow import MessageRequest, Preferences, QueryRequest
from mm_orch.api.schemas.workflow_answers import (
    FailedQuery,
    MessageAnswer,
    PieceEvent,
    QueryAnswer,
    StepEvent,
    ThoughtEvent,
    WorkflowList,
)
from mm_orch.api.workflow_answer import QueryResponse, RunResponse, write_message
from mm_orch.core.generation import Message
from mm_orch.storage.sessions import new_session_id
from mm_orch.workflows.call import PassageOptions, SessionCall, WorkflowCall

if TYPE_CHECKING:
    from fastapi import FastAPI

    from mm_orch.api.formats import Json
    from mm_orch.api.settings import ApiSettings
    from mm_orch.workflows.contract import Workflow
    from mm_orch.workflows.running import Workflows

_CHAT = "chat_generate"
_CONTEXT = "Answer by the following context.\n\n{context}"
# Of a streamed query.
_EVENTS = (RouteEvent, StepEvent, ThoughtEvent, PieceEvent, QueryAnswer, FailedQuery)
_ANSWERING = (400, 401, 403, 404, 413, 429, 500, 503, 504)


def add_workflow_routes(app: FastAPI, workflows: Workflows, settings: ApiSettings) -> None:
    """Add GET /api/workflows, POST /api/query and POST /api/chat."""

    async def answer_query(request: Request) -> QueryResponse:
        body = await read_body(request, QueryRequest, timeout_s=settings.body_timeout_s)
        session = (
            None
            if body.session_id is None
            else SessionCall(session_id=body.session_id, is_new=False)
        )
        return QueryResponse(
            workflows,
            body.workflow_type,
            make_call(request, _messages_of(body), session=session, preferences=body.preferences),
            send_timeout_s=settings.send_timeout_s,
            is_stream=bool(body.stream),
        )

    async def answer_message(request: Request) -> RunResponse:
        body = await read_body(request, MessageRequest, timeout_s=settings.body_timeout_s)
        session = SessionCall(
            session_id=body.session_id or new_session_id(), is_new=body.session_id is None
        )
        messages = (Message(role="user", content=body.message),)
        return RunResponse(
            workflows,
            _CHAT,
            make_call(request, messages, session=session, preferences=body.preferences),
            send_timeout_s=settings.send_timeout_s,
            question_param="message",
            make_body=write_message,
        )

    async def list_workflows() -> JSONResponse:
        """List the workflows there are, with their steps."""
        return JSONResponse({"workflows": [_describe(one) for one in await workflows.list_all()]})

    add_route(app, "GET", "/api/workflows", list_workflows, WorkflowList, 401)
    app.add_api_route(
        "/api/query",
        answer_query,
        methods=["POST"],
        summary="Answer a question with a workflow",
        response_model=None,
        responses={
            200: answer_of(QueryAnswer, *_EVENTS, has_done=False),
            **refusals(*_ANSWERING),
        },
        openapi_extra=body_of(QueryRequest),
    )
    app.add_api_route(
        "/api/chat",
        answer_message,
        methods=["POST"],
        summary="Answer the next message of a stored conversation",
        response_model=None,
        responses={200: {"model": MessageAnswer}, **refusals(*_ANSWERING)},
        openapi_extra=body_of(MessageRequest),
    )


def make_call(
    request: Request,
    messages: tuple[Message, ...],
    *,
    preferences: Preferences | None,
    session: SessionCall | None = None,
    passages: PassageOptions | None = None,
) -> WorkflowCall:
    """Return the call that a request makes of a workflow.

    Raises:
        InvalidValueError: its priority is above what the key may ask for.
    """
    wished = preferences or Preferences()
    with native_words("query"):
        priority = allowed_priority(request, wished.priority)
    return WorkflowCall(
        request_id=request.state.request_id,
        messages=messages,
        model=wished.model,
        options=wished.options(),
        timeout_s=wished.timeout_s,
        priority=priority,
        caller=caller_of(request),
        owner=owner_of(request),
        session=session,
        # So that the KV memory of a session is released by its name.
        conversation_id=qualify(request, session.session_id if session else None),
        max_tokens_param="preferences.max_tokens",
        passages=passages or PassageOptions(),
    )


def _messages_of(body: QueryRequest) -> tuple[Message, ...]:
    question = Message(role="user", content=body.query)
    if not body.context:
        return (question,)
    return (Message(role="system", content=_CONTEXT.format(context=body.context)), question)


def _describe(workflow: Workflow) -> Json:
    return {
        "name": workflow.name,
        "summary": workflow.summary,
        "steps": [
            {"name": step.name, "is_optional": step.is_optional} for step in workflow.graph.steps
        ],
    }

"""The native paths of workflows and of the conversations that they keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import Query
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation
from starlette.responses import JSONResponse

from mm_orch.api.bodies import read_body
from mm_orch.api.callers import allowed_priority, caller_of, owner_of
from mm_orch.api.conversations import qualify
from mm_orch.api.documentation import add_route, answer_of, body_of, refusals
from mm_orch.api.schemas.workflow import MessageRequest, Preferences, QueryRequest
from mm_orch.api.schemas.workflow_answers import (
    FailedQuery,
    ForgottenAnswer,
    MessageAnswer,
    PieceEvent,
    QueryAnswer,
    SessionList,
    StepEvent,
    WholeSessionAnswer,
)
from mm_orch.api.workflow_answer import QueryResponse, RunResponse, write_message
from mm_orch.core.generation import Message
from mm_orch.storage.sessions import MAX_SESSIONS, new_session_id
from mm_orch.workflows.call import SessionCall, WorkflowCall

if TYPE_CHECKING:
    from fastapi import FastAPI

    from mm_orch.api.formats import Json
    from mm_orch.api.settings import ApiSettings
    from mm_orch.orchestration.generation import Generator
    from mm_orch.storage.sessions import Session, SessionStore, SessionSummary
    from mm_orch.workflows.running import Workflows

_CHAT = "chat_generate"
_CONTEXT = "Answer by the following context.\n\n{context}"
_ANSWERING = (400, 401, 404, 413, 429, 500, 503, 504)


def add_workflow_routes(app: FastAPI, workflows: Workflows, settings: ApiSettings) -> None:
    """Add POST /api/query and POST /api/chat."""

    async def answer_query(request: Request) -> QueryResponse:
        body = await read_body(request, QueryRequest, timeout_s=settings.body_timeout_s)
        session = (
            None
            if body.session_id is None
            else SessionCall(session_id=body.session_id, is_new=False)
        )
        return QueryResponse(
            workflows,
            body.workflow_type or _CHAT,
            _make_call(request, _messages_of(body), session, body.preferences),
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
            _make_call(request, messages, session, body.preferences),
            send_timeout_s=settings.send_timeout_s,
            make_body=write_message,
        )

    app.add_api_route(
        "/api/query",
        answer_query,
        methods=["POST"],
        summary="Answer a question with a workflow",
        response_model=None,
        responses={
            200: answer_of(
                QueryAnswer, StepEvent, PieceEvent, QueryAnswer, FailedQuery, has_done=False
            ),
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


def add_session_routes(app: FastAPI, sessions: SessionStore, generator: Generator) -> None:
    """Add /api/sessions, and GET and DELETE /api/sessions/{session_id}."""

    async def list_sessions(
        request: Request, limit: Annotated[int, Query(ge=1, le=MAX_SESSIONS)] = 100
    ) -> JSONResponse:
        found = await sessions.list_sessions(owner_of(request), limit=limit)
        return JSONResponse({"sessions": [_in_short(one) for one in found]})

    async def show_session(request: Request, session_id: str) -> JSONResponse:
        session = await sessions.read(owner_of(request), session_id)
        return JSONResponse(_as_whole(session))

    async def delete_session(request: Request, session_id: str) -> JSONResponse:
        await sessions.delete(owner_of(request), session_id)
        generator.release_conversation(qualify(request, session_id))
        return JSONResponse({"session_id": session_id, "status": "deleted"})

    one = "/api/sessions/{session_id}"
    add_route(app, "GET", "/api/sessions", list_sessions, SessionList, 400, 401, 500, 503)
    add_route(app, "GET", one, show_session, WholeSessionAnswer, 401, 404, 500, 503)
    add_route(app, "DELETE", one, delete_session, ForgottenAnswer, 401, 404, 500, 503)


def _make_call(
    request: Request,
    messages: tuple[Message, ...],
    session: SessionCall | None,
    preferences: Preferences | None,
) -> WorkflowCall:
    wished = preferences or Preferences()
    return WorkflowCall(
        request_id=request.state.request_id,
        messages=messages,
        model=wished.model_name,
        options=wished.options(),
        deadline_s=wished.timeout_s,
        priority=allowed_priority(request, wished.priority),
        caller=caller_of(request),
        owner=owner_of(request),
        session=session,
        # So that the KV memory of a session is released by its name.
        conversation_id=qualify(request, session.session_id if session else None),
    )


def _messages_of(body: QueryRequest) -> tuple[Message, ...]:
    question = Message(role="user", content=body.query)
    if not body.context:
        return (question,)
    return (Message(role="system", content=_CONTEXT.format(context=body.context)), question)


def _in_short(summary: SessionSummary) -> Json:
    return {
        "session_id": summary.session_id,
        "turn_count": summary.num_turns,
        "created_at": summary.created_at,
        "updated_at": summary.updated_at,
    }


def _as_whole(session: Session) -> Json:
    messages = [
        {
            "message_id": message.message_id,
            "role": role,
            "content": message.content,
            "created_at": message.created_at,
        }
        for turn in session.turns
        for role, message in (("user", turn.user), ("assistant", turn.assistant))
    ]
    return {
        "session_id": session.session_id,
        "turn_count": len(session.turns),
        "created_at": session.created_at,
        "updated_at": session.updated_at,
        "messages": messages,
    }

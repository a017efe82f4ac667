"""The paths of stored conversations: list, show, forget."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
from fastapi import Query
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation
from starlette.responses import JSONResponse, Response

from mm_orch.api.callers import owner_of
from mm_orch.api.conversations import qualify
from mm_orch.api.documentation import add_route
from mm_orch.api.schemas.workflow_answers import (
    ForgottenAnswer,
    SessionList,
    WholeSessionAnswer,
)
from mm_orch.storage.sessions import MAX_SESSIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastapi import FastAPI

    from mm_orch.api.formats import Json
    from mm_orch.orchestration.generation import Generator
    from mm_orch.storage.sessions import Session, SessionSummary
    from mm_orch.workflows.running import Workflows

T = TypeVar("T")

_MAX_LISTED = 1000
_Limit = Annotated[int, Query(ge=1, le=_MAX_LISTED)]
_Offset = Annotated[int, Query(ge=0, le=MAX_SESSIONS)]


def add_session_routes(app: FastAPI, workflows: Workflows, generator: Generator) -> None:
    """Add /api/sessions, and GET and DELETE /api/sessions/{session_id}."""

    async def list_sessions(request: Request, limit: _Limit = 100, offset: _Offset = 0) -> Response:
        """List the caller's stored conversations, the last changed first."""
        found = await workflows.sessions.list_sessions(
            owner_of(request), limit=limit, offset=offset
        )
        return await answer_with(_as_list, found)

    async def show_session(request: Request, session_id: str) -> Response:
        """Give one stored conversation with its messages."""
        session = await workflows.sessions.read(owner_of(request), session_id)
        return await answer_with(_as_whole, session)

    async def delete_session(request: Request, session_id: str) -> JSONResponse:
        """Forget one stored conversation and free its KV memory."""
        await workflows.sessions.delete(owner_of(request), session_id)
        generator.release_conversation(qualify(request, session_id))
        return JSONResponse({"session_id": session_id, "status": "deleted"})

    one = "/api/sessions/{session_id}"
    add_route(app, "GET", "/api/sessions", list_sessions, SessionList, 400, 401, 404, 500, 503)
    add_route(app, "GET", one, show_session, WholeSessionAnswer, 401, 404, 500, 503)
    add_route(app, "DELETE", one, delete_session, ForgottenAnswer, 401, 404, 500, 503)


async def answer_with(describe: Callable[[T], Json], found: T) -> Response:
    """Answer with what was found, in words of JSON."""
    # Of thousands of messages it takes longer than the event loop should stand still.
    body = await asyncio.to_thread(lambda: msgspec.json.encode(describe(found)))
    return Response(body, media_type="application/json")


def _as_list(summaries: Sequence[SessionSummary]) -> Json:
    return {"sessions": [_in_short(one) for one in summaries]}


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

"""The paths of stored conversations: list, show, forget, take along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import Query
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation
from starlette.responses import JSONResponse, StreamingResponse

from mm_orch.api.bodies import receive_body
from mm_orch.api.callers import owner_of
from mm_orch.api.conversations import qualify
from mm_orch.api.documentation import add_route, refusals
from mm_orch.api.schemas.workflow_answers import (
    ForgottenAnswer,
    ImportAnswer,
    SessionList,
    WholeSessionAnswer,
)
from mm_orch.storage.sessions import MAX_SESSIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

    from mm_orch.api.formats import Json
    from mm_orch.api.settings import ApiSettings
    from mm_orch.orchestration.generation import Generator
    from mm_orch.storage.sessions import Session, SessionStore, SessionSummary

_JSON_LINES = "application/x-ndjson"
_LINES = {"content": {_JSON_LINES: {"schema": {"type": "string"}}}}


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


def add_exchange_routes(app: FastAPI, sessions: SessionStore, settings: ApiSettings) -> None:
    """Add GET /api/export/sessions and POST /api/import/sessions."""

    async def export(request: Request) -> StreamingResponse:
        lines = sessions.export(owner_of(request))
        # What goes wrong before it is an answer of its own status.
        head = await anext(lines)
        return StreamingResponse(_put_before(head, lines), media_type=_JSON_LINES)

    async def take_in(request: Request) -> JSONResponse:
        body = await receive_body(request, timeout_s=settings.body_timeout_s)
        report = await sessions.import_lines(owner_of(request), body.splitlines())
        return JSONResponse(
            {"sessions_added": report.num_added, "sessions_known": report.num_known}
        )

    app.add_api_route(
        "/api/export/sessions",
        export,
        methods=["GET"],
        summary="All sessions of the caller, as JSON lines",
        response_class=StreamingResponse,
        responses={
            200: {**_LINES, "description": "A head, then one session a line."},
            **refusals(401, 500, 503),
        },
    )
    app.add_api_route(
        "/api/import/sessions",
        take_in,
        methods=["POST"],
        summary="Take in what an export gave, all of it or nothing",
        response_model=None,
        responses={
            200: {"model": ImportAnswer},
            **refusals(400, 401, 413, 500, 503, 504),
        },
        openapi_extra={"requestBody": {"required": True, **_LINES}},
    )


async def _put_before(head: bytes, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield head
    async for line in lines:
        yield line


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

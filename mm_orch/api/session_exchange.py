"""The paths on which stored conversations leave, and come back in."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING

from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation
from starlette.responses import JSONResponse, Response

from mm_orch.api.bodies import receive_body
from mm_orch.api.callers import owner_of
from mm_orch.api.documentation import refusals
from mm_orch.api.event_stream import part_of
from mm_orch.api.schemas.workflow_answers import ImportAnswer
from mm_orch.api.watched_response import WatchedResponse
from mm_orch.core.errors import QueueFullError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from fastapi import FastAPI
    from starlette.types import Scope, Send

    from mm_orch.api.settings import ApiSettings
    from mm_orch.workflows.running import Workflows

IMPORT_PATH = "/api/import/sessions"
_JSON_LINES = "application/x-ndjson"
_LINES = {"content": {_JSON_LINES: {"schema": {"type": "string"}}}}
_MAX_IMPORTS = 4
_RETRY_AFTER_S = 1.0


class ExportResponse(WatchedResponse):
    """Lines as they are read; a client that stalls or leaves ends the reading."""

    media_type = _JSON_LINES

    def __init__(self, lines: AsyncIterator[bytes], *, send_timeout_s: float) -> None:
        super().__init__(send_timeout_s)
        self._lines = lines

    async def _answer(self, scope: Scope, send: Send) -> None:  # noqa: ARG002 - of the class above
        # What goes wrong before it is an answer of its own status.
        head = await anext(self._lines)
        # No length of its own: it is not known before the end.
        headers = [(b"content-type", _JSON_LINES.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(part_of(head))
        async for line in self._lines:
            await send(part_of(line))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class ImportPlaces:
    """What is imported at the same time, from before its body is received: one of each owner.

    Bodies are large, and so bounded in number.
    """

    def __init__(self) -> None:
        self._owners: set[str] = set()

    @contextmanager
    def take(self, owner: str) -> Iterator[None]:
        """Have a place while the context lasts.

        Raises:
            QueueFullError: the owner has one already, or others have all.
        """
        if owner in self._owners or len(self._owners) >= _MAX_IMPORTS:
            raise QueueFullError(
                f"{len(self._owners)} imports are under way; there may be one of each caller and"
                f" {_MAX_IMPORTS} in all.",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._owners.add(owner)
        try:
            yield
        finally:
            self._owners.remove(owner)


def add_exchange_routes(app: FastAPI, workflows: Workflows, settings: ApiSettings) -> None:
    """Add GET /api/export/sessions and POST /api/import/sessions."""
    places = ImportPlaces()

    async def export(request: Request) -> ExportResponse:
        lines = workflows.sessions.export(owner_of(request))
        return ExportResponse(lines, send_timeout_s=settings.send_timeout_s)

    async def take_in(request: Request) -> JSONResponse:
        sessions, owner = workflows.sessions, owner_of(request)
        with places.take(owner):
            body = await receive_body(request, timeout_s=settings.body_timeout_s)
            report = await sessions.import_lines(owner, io.BytesIO(body))
        return JSONResponse(
            {"sessions_added": report.num_added, "sessions_known": report.num_known}
        )

    app.add_api_route(
        "/api/export/sessions",
        export,
        methods=["GET"],
        summary="All sessions of the caller, as JSON lines",
        response_class=Response,
        response_model=None,
        responses={
            200: {**_LINES, "description": "A head, then one session a line."},
            **refusals(401, 404, 500, 503),
        },
    )
    app.add_api_route(
        IMPORT_PATH,
        take_in,
        methods=["POST"],
        summary="Take in what an export gave, all of it or nothing",
        response_model=None,
        responses={
            200: {"model": ImportAnswer},
            **refusals(400, 401, 404, 413, 429, 500, 503, 504),
        },
        openapi_extra={"requestBody": {"required": True, **_LINES}},
    )

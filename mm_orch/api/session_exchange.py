"""The paths on which stored conversations and documents leave, and come back in."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation
from starlette.responses import JSONResponse, Response

from mm_orch.api.bodies import receive_body
from mm_orch.api.callers import owner_of
from mm_orch.api.documentation import refusals
from mm_orch.api.event_stream import part_of
from mm_orch.api.schemas.documents import DocumentImportAnswer
from mm_orch.api.schemas.workflow_answers import ImportAnswer
from mm_orch.api.watched_response import WatchedResponse
from mm_orch.core.errors import QueueFullError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from fastapi import FastAPI
    from pydantic import BaseModel
    from starlette.types import Scope, Send

    from mm_orch.api.settings import ApiSettings
    from mm_orch.documents.library import DocumentLibrary
    from mm_orch.storage.sessions import ImportReport
    from mm_orch.workflows.running import Workflows

IMPORT_PATH = "/api/import/sessions"
DOCUMENT_IMPORT_PATH = "/api/import/documents"
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


class Exchanged(Protocol):
    """A store whose content can leave and come back."""

    def export(self, owner: str) -> AsyncIterator[bytes]:
        """Yield all that an owner has, as JSON lines."""

    async def import_lines(self, owner: str, lines: Iterable[bytes]) -> ImportReport:
        """Take these in, all or nothing."""


def add_exchange_routes(
    app: FastAPI, workflows: Workflows, library: DocumentLibrary, settings: ApiSettings
) -> None:
    """Add GET /api/export/... and POST /api/import/... of sessions and of documents."""
    places = ImportPlaces()
    _add_export(app, "sessions", lambda: workflows.sessions, settings)
    _add_import(app, IMPORT_PATH, lambda: workflows.sessions, ImportAnswer, places, settings)
    _add_export(app, "documents", lambda: library.store, settings)
    _add_import(
        app, DOCUMENT_IMPORT_PATH, lambda: library.store, DocumentImportAnswer, places, settings
    )


def _add_export(
    app: FastAPI, what: str, find_store: Callable[[], Exchanged], settings: ApiSettings
) -> None:
    async def export(request: Request) -> ExportResponse:
        lines = find_store().export(owner_of(request))
        return ExportResponse(lines, send_timeout_s=settings.send_timeout_s)

    app.add_api_route(
        f"/api/export/{what}",
        export,
        methods=["GET"],
        summary=f"All {what} of the caller, as JSON lines",
        response_class=Response,
        response_model=None,
        responses={
            200: {**_LINES, "description": f"A head, then one of the {what} a line."},
            **refusals(401, 404, 500, 503),
        },
    )


def _add_import(
    app: FastAPI,
    path: str,
    find_store: Callable[[], Exchanged],
    answer: type[BaseModel],
    places: ImportPlaces,
    settings: ApiSettings,
) -> None:
    async def take_in(request: Request) -> JSONResponse:
        store, owner = find_store(), owner_of(request)
        with places.take(owner):
            body = await receive_body(request, timeout_s=settings.body_timeout_s)
            report = await store.import_lines(owner, io.BytesIO(body))
        counts = (report.num_added, report.num_known)
        return JSONResponse(dict(zip(answer.model_fields, counts, strict=True)))

    app.add_api_route(
        path,
        take_in,
        methods=["POST"],
        summary="Take in what an export gave, all of it or nothing",
        response_model=None,
        responses={
            200: {"model": answer},
            **refusals(400, 401, 404, 413, 429, 500, 503, 504),
        },
        openapi_extra={"requestBody": {"required": True, **_LINES}},
    )

"""The path that takes files in: a form with a file, or a text in JSON."""

from __future__ import annotations

import asyncio
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation
from starlette.responses import JSONResponse

from mm_orch.api.bodies import parse_body, receive_body
from mm_orch.api.callers import allowed_priority, caller_of, owner_of
from mm_orch.api.documentation import body_of, refusals
from mm_orch.api.event_stream import receive_nothing
from mm_orch.api.form import read_form
from mm_orch.api.receiving import ReceivingPlaces
from mm_orch.api.schemas.documents import DEFAULT_NAME, FormFields, TextUpload, UploadAnswer
from mm_orch.api.watched_response import WatchedResponse
from mm_orch.core.errors import InvalidValueError
from mm_orch.documents.library import Upload

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Scope, Send

    from mm_orch.api.form import Part
    from mm_orch.api.settings import ApiSettings
    from mm_orch.documents.library import DocumentLibrary

UPLOAD_PATH = "/api/rag/upload"
_FORM = "multipart/form-data"
_FORM_SCHEMA = {
    "type": "object",
    "properties": {
        "file": {"type": "string", "format": "binary", "description": ".txt, .md or .pdf"},
        "metadata": {"type": "string", "description": "A JSON object."},
        "chunk_size": {"type": "string", "description": "A whole number."},
        "chunk_overlap": {"type": "string", "description": "A whole number."},
    },
    "required": ["file"],
    "additionalProperties": False,
}


class UploadResponse(WatchedResponse):
    """The answer to one upload; a client that leaves ends it, and nothing is stored then."""

    media_type = "application/json"

    def __init__(self, library: DocumentLibrary, upload: Upload, *, send_timeout_s: float) -> None:
        super().__init__(send_timeout_s)
        self._library = library
        self._upload = upload

    async def _answer(self, scope: Scope, send: Send) -> None:
        uploaded = await self._library.upload(self._upload)
        summary = uploaded.summary
        response = JSONResponse(
            {
                "document_id": summary.document_id,
                "chunks_count": summary.num_chunks,
                "status": uploaded.status,
                "embedding_model": summary.embedding_model,
                "note": uploaded.note,
            }
        )
        await response(scope, receive_nothing, send)


def add_upload_route(app: FastAPI, library: DocumentLibrary, settings: ApiSettings) -> None:
    """Add POST /api/rag/upload."""
    places = ReceivingPlaces(settings.max_request_bytes)

    async def upload(request: Request) -> UploadResponse:
        # Whoever is not served is not told what is wrong with the body.
        library.check_enabled()
        with places.take(owner_of(request), request.headers.get("content-length")):
            body = await receive_body(request, timeout_s=settings.body_timeout_s)
            made = await asyncio.to_thread(_read_upload, request, body)
        return UploadResponse(library, made, send_timeout_s=settings.send_timeout_s)

    description = body_of(TextUpload)
    description["requestBody"]["content"][_FORM] = {"schema": _FORM_SCHEMA}
    app.add_api_route(
        UPLOAD_PATH,
        upload,
        methods=["POST"],
        summary="Store a file, to be searched and cited",
        response_model=None,
        responses={
            200: {"model": UploadAnswer},
            **refusals(400, 401, 404, 413, 429, 500, 503, 504),
        },
        openapi_extra=description,
    )


def _read_upload(request: Request, body: bytes) -> Upload:
    content_type = request.headers.get("content-type", "")
    fields: FormFields | TextUpload
    if content_type.partition(";")[0].strip().lower() == _FORM:
        form = read_form(body, content_type)
        file = _find_file(form)
        fields = _read_fields(form)
        name, content = _last_part(file.filename or ""), file.content
    else:
        fields = text = parse_body(body, TextUpload)
        name, content = text.name or DEFAULT_NAME, _encode(text.content)
    return Upload(
        request_id=request.state.request_id,
        owner=owner_of(request),
        name=name,
        content=content,
        metadata=fields.metadata or {},
        chunk_size=fields.chunk_size,
        chunk_overlap=fields.chunk_overlap,
        priority=allowed_priority(request, None),
        caller=caller_of(request),
    )


def _find_file(form: dict[str, Part]) -> Part:
    file = form.pop("file", None)
    if file is None or not file.filename:
        raise InvalidValueError(
            "The form has no field file with the name of a file.",
            param="file",
            remedy="Send it as curl -F file=@NAME does.",
        )
    return file


def _read_fields(form: dict[str, Part]) -> FormFields:
    """Read each field as JSON; together they are checked as a body of JSON is."""
    fields = {name: _read_field(part) for name, part in form.items()}
    return parse_body(msgspec.json.encode(fields), FormFields)


def _read_field(part: Part) -> object:
    # What a form shows and nobody fills in is sent empty.
    if not part.content.strip():
        return None
    try:
        return msgspec.json.decode(part.text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidValueError(f"{part.name} is not JSON: {error}.", param=part.name) from error


def _encode(text: str) -> bytes:
    # Halves of surrogate pairs, which JSON can spell: they are found when it is decoded.
    return text.encode("utf-8", "surrogatepass")


def _last_part(name: str) -> str:
    """Return the name of a file without folders, which some browsers send along."""
    return PureWindowsPath(PurePosixPath(name).name).name

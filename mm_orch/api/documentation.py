"""Keeps /openapi.json true: bodies that we read ourselves, and every status that can come."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi.openapi.utils import get_openapi
from starlette.responses import JSONResponse

from mm_orch.api.errors import ErrorEnvelope
from mm_orch.core.configuration import ChangeReport, LiveReport
from mm_orch.core.figures import Figures
from mm_orch.core.mind_report import MindReport
from mm_orch.core.observations import AlertsReport, RequestsReport, UsageReport
from mm_orch.core.tuning_report import TunerReport
from mm_orch.core.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastapi import FastAPI
    from pydantic import BaseModel

KEYED_PATHS = ("/v1/", "/api/", "/admin/")
"""What stands under these needs a key where keys are on."""

_REFERENCE = "#/components/schemas/{model}"
_DESCRIPTIONS = {
    400: "A field is wrong; the message names it, its value and what is allowed.",
    401: "No API key, or an unknown one.",
    403: "Not with this key, not from there, or not yet: the workflow is of a later stage.",
    404: "No model, workflow, session, document or request has this name, or what the path tells of"
    " is switched off.",
    409: "The model answers requests now.",
    413: "The body is over api.max_request_bytes; of an import, over 8 MiB (sessions) or 32 MiB"
    " (documents) too.",
    429: "The caller has sent its requests of this minute.",
    500: "A fault of the server.",
    503: "Not now: the queue is full or too long for the deadline, the server drains, or the engine"
    " is down.",
    504: "The deadline passed.",
}
# Answers whose shapes stand in core.
_SHAPES = (
    AlertsReport,
    ChangeReport,
    Figures,
    LiveReport,
    MindReport,
    RequestsReport,
    TunerReport,
    UsageReport,
)
_WITH_RETRY_AFTER = {429, 503}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe these statuses with the error envelope."""
    described: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorEnvelope, "description": _DESCRIPTIONS[status]}
        for status in statuses
    }
    for status in described.keys() & _WITH_RETRY_AFTER:
        described[status]["headers"] = _RETRY_AFTER
    return described


def body_of(schema: type[BaseModel]) -> dict[str, Any]:
    """Describe a body that the endpoint reads itself."""
    reference = {"$ref": _REFERENCE.format(model=schema.__name__)}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}
    }


def shape_of(shape: type[msgspec.Struct]) -> dict[str, Any]:
    """Describe an answer whose shape stands in core; it must be one of those listed here."""
    reference = {"$ref": _REFERENCE.format(model=shape.__name__)}
    return {
        "description": (shape.__doc__ or "").partition("\n")[0],
        "content": {"application/json": {"schema": reference}},
    }


def answer_of(answer: type, *chunks: type, has_done: bool = True) -> dict[str, Any]:
    """Describe an answer that comes whole, or as a stream of chunks, mostly with [DONE] last."""
    contents = [
        {"$ref": _REFERENCE.format(model=schema.__name__)} for schema in (*chunks, ErrorEnvelope)
    ]
    chunked = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"anyOf": contents},
    }
    data = {"anyOf": [chunked, {"const": "[DONE]"}]} if has_done else chunked
    # OpenAPI 3.2's word for one event; older readers see a string.
    event = {"type": "object", "properties": {"data": data}, "required": ["data"]}
    return {
        "model": answer,
        "content": {"text/event-stream": {"itemSchema": event}},
        "description": "The answer.",
    }


def add_route(
    app: FastAPI,
    method: str,
    path: str,
    endpoint: Callable[..., Any],
    answer: type | dict[str, Any],
    *statuses: int,
) -> None:
    """Add a path that reads no body; it answers so, or with one of the statuses.

    ``answer`` is a schema, or a whole description. What the path does is said by the endpoint's
    docstring.
    """
    app.add_api_route(
        path,
        endpoint,
        methods=[method],
        response_model=None,
        responses={
            200: answer if isinstance(answer, dict) else {"model": answer},
            **refusals(*statuses),
        },
    )


def add_description(app: FastAPI, schemas: Iterable[type[BaseModel]], *, needs_key: bool) -> None:
    """Add /openapi.json, which tells of all routes."""

    @functools.cache
    def describe() -> dict[str, Any]:
        return _describe(app, schemas, needs_key=needs_key)

    async def show_description() -> JSONResponse:
        # The first time it takes tens of milliseconds, too long for the event loop.
        return JSONResponse(await asyncio.to_thread(describe))

    app.add_api_route(
        "/openapi.json",
        show_description,
        methods=["GET"],
        summary="This description",
        responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
        include_in_schema=False,
    )


def _describe(
    app: FastAPI, schemas: Iterable[type[BaseModel]], *, needs_key: bool
) -> dict[str, Any]:
    description = get_openapi(
        title=app.title, version=__version__, summary=app.summary, routes=app.routes
    )
    components = description.setdefault("components", {})
    known = components.setdefault("schemas", {})
    _drop_foreign_refusal(description["paths"], known)
    _summarise(description["paths"])
    for schema in schemas:
        written = schema.model_json_schema(ref_template=_REFERENCE)
        known.update(written.pop("$defs", {}))
        known[schema.__name__] = written
    _, shapes = msgspec.json.schema_components(
        _SHAPES, ref_template=_REFERENCE.format(model="{name}")
    )
    known.update(shapes)
    if needs_key:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, operations in description["paths"].items():
            if path.startswith(KEYED_PATHS):
                for operation in operations.values():
                    operation["security"] = [{"key": []}]
    return description


def _summarise(paths: dict[str, Any]) -> None:
    """Make an endpoint's docstring its summary: FastAPI makes one of the function's name."""
    for operations in paths.values():
        for operation in operations.values():
            if said := operation.pop("description", ""):
                operation["summary"] = said.removesuffix(".")


def _drop_foreign_refusal(paths: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Take out FastAPI's 422, which it tells of wherever a path has a parameter."""
    for operations in paths.values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)

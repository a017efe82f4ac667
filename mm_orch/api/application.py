"""Puts the HTTP face together: routes, what surrounds them, and how errors look."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Match, Route

from mm_orch.api.admin import (
    add_admin_routes,
    add_observation_routes,
    add_tuner_route,
    add_usage_route,
)
from mm_orch.api.boundary import Boundary
from mm_orch.api.configuration import add_configuration_routes
from mm_orch.api.console_pages import add_console_routes
from mm_orch.api.conversations import add_conversation_routes
from mm_orch.api.documentation import add_description
from mm_orch.api.documents import add_document_routes
from mm_orch.api.embedding import add_embedding_route
from mm_orch.api.errors import error_response, make_envelope
from mm_orch.api.generating import add_generating_routes
from mm_orch.api.middleware import (
    Authenticated,
    BoundedBody,
    IdentifiedRequest,
    ObservedExchange,
)
from mm_orch.api.mind import add_mind_routes
from mm_orch.api.models import add_native_model_routes
from mm_orch.api.operations import (
    add_model_routes,
    add_operation_routes,
    make_metrics_endpoint,
)
from mm_orch.api.rag_query import add_rag_query_route
from mm_orch.api.rate_limited import RateLimited
from mm_orch.api.rate_limits import RateLimits
from mm_orch.api.schemas.answers import ChatChunk, CompletionChunk
from mm_orch.api.schemas.chat import ChatRequest
from mm_orch.api.schemas.completion import CompletionRequest
from mm_orch.api.schemas.configuration import ConfigurationPatch
from mm_orch.api.schemas.documents import TextUpload
from mm_orch.api.schemas.embedding import EmbeddingsRequest
from mm_orch.api.schemas.mind import FeedbackRequest
from mm_orch.api.schemas.rag import DocumentsQuery
from mm_orch.api.schemas.response_answers import ResponseEvent
from mm_orch.api.schemas.responses import ResponsesRequest
from mm_orch.api.schemas.routing import RouteEvent
from mm_orch.api.schemas.workflow import MessageRequest, QueryRequest
from mm_orch.api.schemas.workflow_answers import (
    FailedQuery,
    PieceEvent,
    StepEvent,
    ThoughtEvent,
)
from mm_orch.api.session_exchange import (
    DOCUMENT_IMPORT_PATH,
    IMPORT_PATH,
    add_exchange_routes,
)
from mm_orch.api.sessions import add_session_routes
from mm_orch.api.shared_rate_limits import SharedRateLimits
from mm_orch.api.tracing import Traced
from mm_orch.api.uploads import add_upload_route
from mm_orch.api.workflows import add_workflow_routes
from mm_orch.core.errors import InvalidValueError, MuAIError
from mm_orch.storage import document_lines, json_lines

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from mm_orch.api.operations import RenderMetrics
    from mm_orch.api.settings import ApiSettings
    from mm_orch.api.tracing import StartTrace
    from mm_orch.core.events import Observer
    from mm_orch.core.mind_report import MindReports
    from mm_orch.core.observations import Observations, UsageReport
    from mm_orch.core.tuning_report import TunerReports
    from mm_orch.documents.library import DocumentLibrary
    from mm_orch.live.configuration import LiveConfiguration
    from mm_orch.orchestration.generation import (
        Embedder,
        Generator,
        ModelLoader,
        SystemReports,
    )
    from mm_orch.routing.router import Router
    from mm_orch.workflows.running import Workflows

# Bodies that the routes read and write themselves.
_DESCRIBED = (
    ChatRequest,
    CompletionRequest,
    EmbeddingsRequest,
    ResponsesRequest,
    ConfigurationPatch,
    FeedbackRequest,
    QueryRequest,
    MessageRequest,
    DocumentsQuery,
    TextUpload,
    ChatChunk,
    CompletionChunk,
    ResponseEvent,
    RouteEvent,
    StepEvent,
    PieceEvent,
    ThoughtEvent,
    FailedQuery,
)
_EXPOSED_HEADERS = [
    "X-Request-ID",
    "X-MuAI-Model",
    "X-MuAI-Engine",
    "X-MuAI-Fallback",
    "X-MuAI-Effects",
    "X-MuAI-Route",
    "Retry-After",
    "X-RateLimit-Limit-Requests",
    "X-RateLimit-Remaining-Requests",
    "X-RateLimit-Reset-Requests",
    "Traceparent",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Insight:
    """What operators are shown of the inside.

    Attributes:
        report_usage: says what each caller has used; may ask the database that servers share.
        live: the options that can be changed; None for none.
        observations: what monitoring keeps; None where it is switched off.
        tuner: tells what it did; None where it is switched off.
        mind: tells what the system knows of itself; None where it is switched off.
    """

    report_usage: Callable[[], Awaitable[UsageReport]]
    live: LiveConfiguration | None = None
    observations: Observations | None = None
    tuner: TunerReports | None = None
    mind: MindReports | None = None


def create_application(
    *,
    generator: Generator,
    workflows: Workflows,
    library: DocumentLibrary,
    embedder: Embedder,
    loader: ModelLoader,
    reports: SystemReports,
    router: Router,
    settings: ApiSettings,
    observer: Observer,
    insight: Insight,
    render_metrics: RenderMetrics | None,
    start_trace: StartTrace | None = None,
) -> ASGIApp:
    """Make the main application.

    Args:
        generator: takes the requests, those for workflows too.
        workflows: take those of the native paths, and keep sessions.
        library: takes files in, and keeps documents.
        embedder: takes those to embed texts.
        loader: loads and unloads models.
        reports: says how the system is.
        router: knows the models' names.
        settings: what HTTP needs of the configuration.
        observer: told of every exchange.
        insight: what operators are shown.
        render_metrics: gives the metrics page; None for no such page.
        start_trace: gives the place of a new span below its caller's; None with tracing off.
    """
    app = FastAPI(
        title="MuAI",
        summary="One OpenAI-compatible server for many models and engines",
        # Pages that would load their scripts from elsewhere; the description has its own route.
        openapi_url=None,
        redirect_slashes=False,
        # Its own spans, where the process has a global tracer, would double ours. Older versions
        # take the word as one of no meaning.
        telemetry={"tracing": False},
        middleware=_surroundings(settings, observer, start_trace),
        exception_handlers={
            MuAIError: _show_own_error,
            HTTPException: _show_http_error,
            RequestValidationError: _show_wrong_parameter,
        },
    )
    add_generating_routes(app, generator, settings)
    add_embedding_route(app, embedder, settings)
    add_conversation_routes(app, generator)
    _add_workflows(app, workflows, library, generator, settings)
    add_operation_routes(app, reports, settings, render_metrics)
    add_model_routes(app, reports, router, workflows)
    add_native_model_routes(app, reports, router, loader, settings)
    add_admin_routes(app, loader, settings)
    _add_insight(app, insight, settings)
    add_console_routes(app)
    add_description(app, _DESCRIBED, needs_key=settings.enable_auth)
    return app


def _add_workflows(
    app: FastAPI,
    workflows: Workflows,
    library: DocumentLibrary,
    generator: Generator,
    settings: ApiSettings,
) -> None:
    """Add workflows, and what is stored for them."""
    add_workflow_routes(app, workflows, settings)
    add_rag_query_route(app, workflows, settings)
    add_session_routes(app, workflows, generator)
    add_upload_route(app, library, settings)
    add_document_routes(app, library)
    add_exchange_routes(app, workflows, library, settings)


def _add_insight(app: FastAPI, insight: Insight, settings: ApiSettings) -> None:
    add_usage_route(app, insight.report_usage, settings)
    add_observation_routes(app, insight.observations, settings)
    add_tuner_route(app, insight.tuner, settings)
    add_mind_routes(app, insight.mind, settings)
    if insight.live is not None:
        add_configuration_routes(app, insight.live, settings)


def create_metrics_application(render_metrics: RenderMetrics, path: str) -> ASGIApp:
    """Make the application of the metrics port: one path."""
    return Starlette(routes=[Route(path, make_metrics_endpoint(render_metrics), methods=["GET"])])


def _surroundings(
    settings: ApiSettings, observer: Observer, start_trace: StartTrace | None
) -> list[Middleware]:
    """List what surrounds the routes, outermost first."""
    layers: list[Any] = [
        Middleware(ObservedExchange, observer=observer),
        Middleware(IdentifiedRequest),
        Middleware(Traced, start_trace=start_trace),
    ]
    if settings.cors_origins:
        layers.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(settings.cors_origins),
                allow_methods=["GET", "POST", "PATCH", "DELETE"],
                allow_headers=["*"],
                expose_headers=_EXPOSED_HEADERS,
            )
        )
    layers.append(Middleware(Boundary))
    if settings.enable_auth:
        layers.append(Middleware(Authenticated, keys=settings.api_keys))
    own = {key.name: limit for key in settings.api_keys if (limit := key.rate_limit_per_minute)}
    if settings.rate_limit_per_minute or own:
        limits = RateLimits(settings.rate_limit_per_minute, own, time.monotonic)
        if settings.buckets is not None:
            take = SharedRateLimits(limits, settings.buckets).take
        else:
            take = limits.take_now
        layers.append(Middleware(RateLimited, take=take, observer=observer))
    # What an export gave can be taken in again, whatever requests are bounded to.
    least = {
        IMPORT_PATH: json_lines.MIN_IMPORT_BYTES,
        DOCUMENT_IMPORT_PATH: document_lines.MIN_IMPORT_BYTES,
    }
    most = settings.max_request_bytes
    layers.append(
        Middleware(
            BoundedBody,
            max_bytes=most,
            max_bytes_by_path={path: max(most, bound) for path, bound in least.items()},
        )
    )
    return layers


async def _show_own_error(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, MuAIError):
        raise error
    return error_response(error)


async def _show_wrong_parameter(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    name = str(first["loc"][-1])
    return error_response(
        InvalidValueError(f"{name} is {first['input']!r}: {first['msg']}.", param=name)
    )


async def _show_http_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    path, method = request.url.path, request.method
    taken = ", ".join(sorted(_find_methods(request)))
    messages = {
        404: f"There is no path {path}. Programs find those there are in /openapi.json, people the"
        " console at /console.",
        405: f"{path} does not take {method}, but {taken}.",
    }
    body = make_envelope(
        messages.get(error.status_code, error.detail), type_="invalid_request_error", code=None
    )
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = taken
    return JSONResponse(body, error.status_code, headers)


def _find_methods(request: Request) -> set[str]:
    """Return the methods that a path takes: of all its routes, where the refusal names one's."""
    matching = [
        route
        for route in request.app.routes
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
    ]
    # A model's name may have slashes, so that its path matches longer ones too.
    path = max((route.path for route in matching), key=len, default="")
    return {method for route in matching if route.path == path for method in route.methods or ()}

"""The paths that say how the system is: health, readiness, models, status, metrics."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation
from starlette.responses import JSONResponse, Response

from mm_orch.api.documentation import refusals
from mm_orch.api.models import report_of
from mm_orch.api.schemas import answers
from mm_orch.orchestration.reports import HealthStatus
from mm_orch.workers.phase import ModelPhase
from mm_orch.workflows.call import WORKFLOW_PREFIX

if TYPE_CHECKING:
    from fastapi import FastAPI

    from mm_orch.api.settings import ApiSettings
    from mm_orch.orchestration.generation import SystemReports
    from mm_orch.orchestration.reports import ModelReport
    from mm_orch.routing.router import Router
    from mm_orch.workflows.contract import Workflow
    from mm_orch.workflows.running import Workflows

RenderMetrics = Callable[[str], tuple[bytes, str]]
"""Gives the metrics page and its content type, as the header ``Accept`` asks."""


def add_model_routes(
    app: FastAPI, reports: SystemReports, router: Router, workflows: Workflows
) -> None:
    """Add /v1/models, /v1/models/{model} and /health/models/{name}."""
    created = int(time.time())

    async def list_models() -> JSONResponse:
        """List the models there are, then the workflows."""
        listed = [_as_model(report, created) for report in reports.status().models]
        # Last, so that who takes the first one takes a model.
        listed += [_workflow_as_model(one, created) for one in await workflows.list_all()]
        return JSONResponse({"object": "list", "data": listed})

    async def show_model(model: str) -> JSONResponse:
        """Show one model, or a workflow that is asked for as one."""
        if not model.startswith(WORKFLOW_PREFIX):
            return JSONResponse(_as_model(report_of(model, router, reports), created))
        name, _, inner = model.removeprefix(WORKFLOW_PREFIX).partition("/")
        if inner:
            router.choose(inner)
        workflow = await workflows.find(name, param="model")
        return JSONResponse(_workflow_as_model(workflow, created) | {"id": model})

    async def show_model_health(name: str) -> JSONResponse:
        """Tell how one model is: its phase, engine and restarts."""
        report = report_of(name, router, reports)
        return JSONResponse(
            {
                "name": report.name,
                "status": report.phase.value,
                "detail": report.short_detail,
                "engine": report.engine,
                "seconds_without_step": report.seconds_without_step,
                "num_restarts": report.num_restarts,
                "endpoints": msgspec.to_builtins(report.endpoints),
            }
        )

    _get(app, "/v1/models", list_models, answers.ModelList, 401)
    # Names may hold slashes.
    _get(app, "/v1/models/{model:path}", show_model, answers.ModelAnswer, 401, 404)
    _get(app, "/health/models/{name:path}", show_model_health, answers.ModelHealthAnswer, 404)


def add_operation_routes(
    app: FastAPI,
    reports: SystemReports,
    settings: ApiSettings,
    render_metrics: RenderMetrics | None,
) -> None:
    """Add /health, /live, /ready, /api/status and, with metrics on, /metrics."""

    async def show_health() -> JSONResponse:
        """Tell whether the server is healthy, and if not why."""
        report = reports.health()
        status = 503 if report.status is HealthStatus.UNHEALTHY else 200
        return JSONResponse(msgspec.to_builtins(report), status)

    async def show_live() -> JSONResponse:
        """Answer while the process runs its event loop."""
        return JSONResponse({"status": "alive"})

    async def show_ready() -> JSONResponse:
        """Tell whether a request sent now would be served at once."""
        report = reports.ready()
        word = "ready" if report.is_ready else "not_ready"
        return JSONResponse(
            {"status": word, "reason": report.reason}, 200 if report.is_ready else 503
        )

    async def show_status() -> JSONResponse:
        """Give the state of the whole server: engines, models, queue, alerts, tuner."""
        return JSONResponse(msgspec.to_builtins(reports.status()))

    unhealthy: dict[int | str, dict[str, Any]] = {
        503: {"model": answers.HealthAnswer, "description": "Nothing can serve."}
    }
    not_ready: dict[int | str, dict[str, Any]] = {
        503: {"model": answers.ReadyAnswer, "description": "Not now; says why."}
    }
    _get(app, settings.health_path, show_health, answers.HealthAnswer, extra=unhealthy)
    _get(app, "/live", show_live, answers.LiveAnswer)
    _get(app, settings.ready_path, show_ready, answers.ReadyAnswer, extra=not_ready)
    _get(app, "/api/status", show_status, answers.StatusAnswer, 401)
    if render_metrics is not None:
        _add_metrics(app, "/metrics", render_metrics)


def make_metrics_endpoint(render: RenderMetrics) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers with the metrics page."""

    async def show_metrics(request: Request) -> Response:
        """Give all series as Prometheus reads them."""
        body, content_type = render(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    return show_metrics


def _add_metrics(app: FastAPI, path: str, render: RenderMetrics) -> None:
    app.add_api_route(
        path,
        make_metrics_endpoint(render),
        methods=["GET"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "Prometheus text."}},
    )


def _get(
    app: FastAPI,
    path: str,
    endpoint: Callable[..., Any],
    schema: type,
    *statuses: int,
    extra: dict[int | str, dict[str, Any]] | None = None,
) -> None:
    app.add_api_route(
        path,
        endpoint,
        methods=["GET"],
        response_model=None,
        responses={200: {"model": schema}, **refusals(*statuses), **(extra or {})},
    )


def _as_model(report: ModelReport, created: int) -> dict[str, Any]:
    return {
        "id": report.name,
        "object": "model",
        "created": created,
        "owned_by": "muai",
        "task": report.task,
        "aliases": list(report.aliases),
        "phase": report.phase.value,
        "engine": report.engine,
        "dtype": report.dtype,
        "context_length": report.context_length,
        "dimensions": report.dimensions,
    }


def _workflow_as_model(workflow: Workflow, created: int) -> dict[str, Any]:
    return {
        "id": f"{WORKFLOW_PREFIX}{workflow.name}",
        "object": "model",
        "created": created,
        "owned_by": "muai-workflows",
        "task": "generate",
        "aliases": [],
        # It runs on whichever model is asked for with it.
        "phase": ModelPhase.READY.value,
        "engine": None,
        "dtype": None,
        "context_length": None,
        "dimensions": None,
    }

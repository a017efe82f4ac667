"""The paths of operators: drain and resume the server, see usage, alerts and last requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import Query
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation
from starlette.responses import JSONResponse, Response

from mm_orch.api.documentation import add_route, shape_of
from mm_orch.api.json_answer import as_json
from mm_orch.api.rights import require_admin
from mm_orch.api.schemas.answers import DrainAnswer
from mm_orch.core.errors import NotServedError
from mm_orch.core.figures import Figures
from mm_orch.core.observations import AlertsReport, RequestsReport, UsageReport
from mm_orch.core.tuning_report import TunerReport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fastapi import FastAPI

    from mm_orch.api.settings import ApiSettings
    from mm_orch.core.observations import Observations
    from mm_orch.core.tuning_report import TunerReports
    from mm_orch.orchestration.generation import ModelLoader

_MAX_REQUESTS = 500


def add_admin_routes(app: FastAPI, loader: ModelLoader, settings: ApiSettings) -> None:
    """Add /admin/drain and /admin/resume."""

    async def drain(request: Request) -> JSONResponse:
        """Have the server take no new requests; those admitted go on."""
        require_admin(request, settings)
        loader.begin_drain()
        return JSONResponse({"status": "draining"})

    async def resume(request: Request) -> JSONResponse:
        """Have the server take new requests again."""
        require_admin(request, settings)
        loader.end_drain()
        return JSONResponse({"status": "serving"})

    add_route(app, "POST", "/admin/drain", drain, DrainAnswer, 401, 403)
    add_route(app, "POST", "/admin/resume", resume, DrainAnswer, 401, 403, 503)


def add_usage_route(
    app: FastAPI, report_usage: Callable[[], Awaitable[UsageReport]], settings: ApiSettings
) -> None:
    """Add /admin/usage, which is told whether monitoring is on or not."""

    async def show_usage(request: Request) -> Response:
        """Count each caller's requests, refusals and tokens."""
        require_admin(request, settings)
        return as_json(await report_usage())

    add_route(app, "GET", "/admin/usage", show_usage, shape_of(UsageReport), 401, 403, 500, 503)


def add_observation_routes(
    app: FastAPI, observations: Observations | None, settings: ApiSettings
) -> None:
    """Add /api/metrics, /admin/alerts and /admin/requests.

    Args:
        app: gets the routes.
        observations: what monitoring keeps; None where it is switched off.
        settings: of the HTTP face.
    """

    def seen() -> Observations:
        if observations is None:
            raise NotServedError(
                "Nothing is observed here: monitoring.enabled is false.",
                remedy="Set it to true and start the server again.",
            )
        return observations

    async def show_metrics(after: float | None = None) -> Response:
        """Give the figures of the last minutes, and the points of the charts."""
        return as_json(seen().metrics(after))

    async def show_alerts(request: Request) -> Response:
        """Tell which alerts fire, which did, and how each destination does."""
        require_admin(request, settings)
        return as_json(seen().alerts())

    async def show_requests(
        request: Request, limit: Annotated[int, Query(ge=1, le=_MAX_REQUESTS)] = 100
    ) -> Response:
        """List the last requests that ended, each with its timeline and no text."""
        require_admin(request, settings)
        return as_json(seen().requests(limit))

    add_route(app, "GET", "/api/metrics", show_metrics, shape_of(Figures), 400, 401, 404)
    add_route(app, "GET", "/admin/alerts", show_alerts, shape_of(AlertsReport), 401, 403, 404)
    add_route(
        app, "GET", "/admin/requests", show_requests, shape_of(RequestsReport), 400, 401, 403, 404
    )


def add_tuner_route(app: FastAPI, tuner: TunerReports | None, settings: ApiSettings) -> None:
    """Add /admin/tuner; ``tuner`` is None where it is switched off."""

    async def show_tuner(request: Request) -> Response:
        """Tell what is tuned to what, and the tuner's last decisions."""
        require_admin(request, settings)
        if tuner is None:
            raise NotServedError(
                "Nothing is tuned here: optimization.tuner.enabled is false.",
                remedy="Set it to true and start the server again.",
            )
        return as_json(tuner.report())

    add_route(app, "GET", "/admin/tuner", show_tuner, shape_of(TunerReport), 401, 403, 404)

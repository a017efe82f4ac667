"""The native paths about models: what there is, load one, let one go, drain one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation
from starlette.responses import JSONResponse

from mm_orch.api.documentation import add_route
from mm_orch.api.rights import require_admin
from mm_orch.api.schemas.answers import LoadAnswer, NativeModelAnswer, NativeModelList

if TYPE_CHECKING:
    from fastapi import FastAPI

    from mm_orch.api.settings import ApiSettings
    from mm_orch.orchestration.generation import ModelLoader, SystemReports
    from mm_orch.orchestration.reports import ModelReport
    from mm_orch.routing.router import Router


def report_of(name: str, router: Router, reports: SystemReports) -> ModelReport:
    """Return what is said of the model of this name or alias.

    Raises:
        ModelNotFoundError: naming the models there are.
    """
    model = router.choose(name)
    return next(report for report in reports.status().models if report.name == model)


def add_native_model_routes(
    app: FastAPI,
    reports: SystemReports,
    router: Router,
    loader: ModelLoader,
    settings: ApiSettings,
) -> None:
    """Add /api/models, /api/models/{name}, and POST .../load, /unload, /drain and /resume."""

    def tell_phase(model: str) -> JSONResponse:
        report = report_of(model, router, reports)
        return JSONResponse({"name": model, "status": report.phase.value})

    async def list_models() -> JSONResponse:
        """List the models with their phases, engines, circuits and memory."""
        return JSONResponse({"models": msgspec.to_builtins(reports.status().models)})

    async def show_model(name: str) -> JSONResponse:
        """Show one model's phase, engine, circuits and memory."""
        return JSONResponse(msgspec.to_builtins(report_of(name, router, reports)))

    async def load(request: Request, name: str) -> JSONResponse:
        """Load a model and wait until it is ready."""
        require_admin(request, settings)
        model = router.choose(name)
        await loader.load_model(model)
        return tell_phase(model)

    async def unload(request: Request, name: str, *, force: bool = False) -> JSONResponse:
        """Unload a model and free its memory."""
        require_admin(request, settings)
        model = router.choose(name)
        await loader.unload_model(model, is_forced=force)
        return tell_phase(model)

    async def drain(request: Request, name: str) -> JSONResponse:
        """Have a model take no new requests; those admitted go on."""
        require_admin(request, settings)
        model = router.choose(name)
        loader.drain_model(model)
        return JSONResponse({"name": model, "status": "draining"})

    async def resume(request: Request, name: str) -> JSONResponse:
        """Have a drained model take new requests again."""
        require_admin(request, settings)
        model = router.choose(name)
        loader.resume_model(model)
        return tell_phase(model)

    add_route(app, "GET", "/api/models", list_models, NativeModelList, 401)
    # Names may hold slashes, so what stands behind them comes first.
    add_route(
        app, "POST", "/api/models/{name:path}/load", load, LoadAnswer, 401, 403, 404, 503, 504
    )
    add_route(
        app, "POST", "/api/models/{name:path}/unload", unload, LoadAnswer, 400, 401, 403, 404, 409
    )
    add_route(app, "POST", "/api/models/{name:path}/drain", drain, LoadAnswer, 401, 403, 404)
    add_route(app, "POST", "/api/models/{name:path}/resume", resume, LoadAnswer, 401, 403, 404)
    add_route(app, "GET", "/api/models/{name:path}", show_model, NativeModelAnswer, 401, 404)

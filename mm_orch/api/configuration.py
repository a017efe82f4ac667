"""The paths on which an operator sees and changes the options that are live."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation
from starlette.responses import Response  # noqa: TC002 - FastAPI reads the annotation

from mm_orch.api.bodies import read_body
from mm_orch.api.documentation import body_of, refusals, shape_of
from mm_orch.api.json_answer import as_json
from mm_orch.api.rights import require_admin
from mm_orch.api.schemas.configuration import ConfigurationPatch
from mm_orch.core.configuration import ChangeReport, LiveReport

if TYPE_CHECKING:
    from fastapi import FastAPI

    from mm_orch.api.settings import ApiSettings
    from mm_orch.live.configuration import LiveConfiguration

_PATH = "/admin/config"


def add_configuration_routes(app: FastAPI, live: LiveConfiguration, settings: ApiSettings) -> None:
    """Add GET and PATCH /admin/config."""

    async def show_configuration(request: Request) -> Response:
        """Show the live options: what is in force, who set it, what is allowed."""
        require_admin(request, settings)
        return as_json(live.report())

    async def change_configuration(request: Request) -> Response:
        """Give live options other values, all of them or none."""
        require_admin(request, settings)
        body = await read_body(request, ConfigurationPatch, timeout_s=settings.body_timeout_s)
        return as_json(ChangeReport(changes=await live.change(body.root, source="admin")))

    app.add_api_route(
        _PATH,
        show_configuration,
        methods=["GET"],
        response_model=None,
        responses={200: shape_of(LiveReport), **refusals(401, 403)},
    )
    app.add_api_route(
        _PATH,
        change_configuration,
        methods=["PATCH"],
        response_model=None,
        responses={200: shape_of(ChangeReport), **refusals(400, 401, 403, 413, 503)},
        openapi_extra=body_of(ConfigurationPatch),
    )

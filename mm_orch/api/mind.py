"""The paths of what the system knows of itself: show it, and tell it what an answer was worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation
from starlette.responses import JSONResponse, Response

from mm_orch.api.bodies import read_body
from mm_orch.api.callers import caller_of
from mm_orch.api.documentation import add_route, body_of, refusals, shape_of
from mm_orch.api.json_answer import as_json
from mm_orch.api.schemas.mind import FeedbackAnswer, FeedbackRequest
from mm_orch.core.errors import NotServedError
from mm_orch.core.mind_report import MindReport

if TYPE_CHECKING:
    from fastapi import FastAPI

    from mm_orch.api.settings import ApiSettings
    from mm_orch.core.mind_report import MindReports


def add_mind_routes(app: FastAPI, mind: MindReports | None, settings: ApiSettings) -> None:
    """Add GET /api/consciousness and POST /api/feedback; ``mind`` is None where it is off."""

    def known() -> MindReports:
        if mind is None:
            raise NotServedError(
                "Nothing here knows the system itself: consciousness.enabled is false.",
                remedy="Set it to true and start the server again.",
            )
        return mind

    async def show_mind() -> Response:
        """Tell what the system knows of itself: goals, mood, stage, past outcomes."""
        return as_json(await known().report())

    async def take_feedback(request: Request) -> JSONResponse:
        there = known()
        body = await read_body(request, FeedbackRequest, timeout_s=settings.body_timeout_s)
        await there.take_feedback(caller_of(request), body.request_id, body.number)
        return JSONResponse({"request_id": body.request_id, "score": body.number})

    add_route(app, "GET", "/api/consciousness", show_mind, shape_of(MindReport), 401, 404)
    app.add_api_route(
        "/api/feedback",
        take_feedback,
        methods=["POST"],
        summary="Say what the answer to an own request was worth",
        response_model=None,
        responses={
            200: {"model": FeedbackAnswer},
            **refusals(400, 401, 404, 413, 500, 503, 504),
        },
        openapi_extra=body_of(FeedbackRequest),
    )

"""The path that releases what a conversation has left in the KV cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation
from starlette.responses import JSONResponse

from mm_orch.api.documentation import refusals
from mm_orch.api.schemas.answers import ReleaseAnswer
from mm_orch.orchestration.limits import check_conversation_id

if TYPE_CHECKING:
    from fastapi import FastAPI

    from mm_orch.orchestration.generation import Generator


def add_conversation_routes(app: FastAPI, generator: Generator) -> None:
    """Add DELETE /api/conversations/{conversation_id}."""

    async def release(request: Request, conversation_id: str) -> JSONResponse:
        check_conversation_id(conversation_id)
        generator.release_conversation(qualify(request, conversation_id))
        return JSONResponse({"conversation_id": conversation_id, "status": "released"})

    app.add_api_route(
        "/api/conversations/{conversation_id}",
        release,
        methods=["DELETE"],
        summary="Free the KV memory that only this conversation needs",
        response_model=None,
        responses={200: {"model": ReleaseAnswer}, **refusals(400, 401)},
    )


def qualify(request: Request, conversation_id: str | None) -> str:
    """Return the name inside the server: a conversation belongs to the key that began it."""
    if not conversation_id:
        return ""
    # No id holds a slash.
    return f"{getattr(request.state, 'key_name', '')}/{conversation_id}"

"""The native path that asks the caller's documents."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation

from mm_orch.api.bodies import read_body
from mm_orch.api.documentation import body_of, refusals
from mm_orch.api.schemas.rag import DocumentsAnswer, DocumentsQuery
from mm_orch.api.workflow_answer import RunResponse
from mm_orch.api.workflow_format import write_documents_answer
from mm_orch.api.workflows import make_call
from mm_orch.core.generation import Message

if TYPE_CHECKING:
    from fastapi import FastAPI

    from mm_orch.api.settings import ApiSettings
    from mm_orch.workflows.running import Workflows

DOCUMENTS_QUERY_PATH = "/api/rag/query"
_WORKFLOW = "rag_qa"


def add_rag_query_route(app: FastAPI, workflows: Workflows, settings: ApiSettings) -> None:
    """Add POST /api/rag/query."""

    async def answer_from_documents(request: Request) -> RunResponse:
        body = await read_body(request, DocumentsQuery, timeout_s=settings.body_timeout_s)
        return RunResponse(
            workflows,
            _WORKFLOW,
            make_call(
                request,
                (Message(role="user", content=body.query),),
                preferences=body.preferences,
                passages=body.passages(),
            ),
            send_timeout_s=settings.send_timeout_s,
            question_param="query",
            make_body=partial(write_documents_answer, request_id=request.state.request_id),
        )

    app.add_api_route(
        DOCUMENTS_QUERY_PATH,
        answer_from_documents,
        methods=["POST"],
        summary="Answer a question from the caller's documents",
        response_model=None,
        responses={
            200: {"model": DocumentsAnswer},
            **refusals(400, 401, 403, 404, 413, 429, 500, 503, 504),
        },
        openapi_extra=body_of(DocumentsQuery),
    )

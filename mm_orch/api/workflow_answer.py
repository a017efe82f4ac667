"""Answers with a run of a workflow: a whole result, or its progress and then the result.

open the run          an error here is an answer of its own status
whole                 ... and so is one of any step
stream: what was chosen, steps and pieces as they come, then one of
    result            with its status
    error             it failed, and says why
    nothing           the client has gone
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from mm_orch.api.errors import error_response
from mm_orch.api.event_stream import find_failure, part_of, receive_nothing, start_of
from mm_orch.api.fallbacks import effects_header, headers_of, route_header
from mm_orch.api.formats import encode_event
from mm_orch.api.native_words import native_words
from mm_orch.api.watched_response import WatchedResponse
from mm_orch.api.workflow_format import write_progress, write_result
from mm_orch.core.errors import MuAIError, StorageError
from mm_orch.core.routing import AUTO
from mm_orch.workflows.contract import ANSWER, KEPT

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Scope, Send

    from mm_orch.api.formats import Json
    from mm_orch.workflows.call import WorkflowCall
    from mm_orch.workflows.run import WorkflowRun
    from mm_orch.workflows.running import Workflows


class RunResponse(WatchedResponse):
    """What the two kinds of answer share: the run lasts as long as its client stays.

    Args:
        workflows: take the call.
        name: of the workflow; None does what is configured.
        call: what is asked.
        send_timeout_s: a client that takes nothing for so long counts as gone.
        question_param: the field that holds what is asked.
        make_body: writes the whole answer of a run that has ended well.
    """

    def __init__(
        self,
        workflows: Workflows,
        name: str | None,
        call: WorkflowCall,
        *,
        send_timeout_s: float,
        question_param: str,
        make_body: Callable[[WorkflowRun], Json],
    ) -> None:
        super().__init__(send_timeout_s)
        self._workflows = workflows
        self._name = name
        self._call = call
        self._question_param = question_param
        self._make_body = make_body

    async def _answer(self, scope: Scope, send: Send) -> None:
        with native_words(self._question_param):
            await self._complete(scope, send)

    async def _complete(self, scope: Scope, send: Send) -> None:
        async with self._workflows.open(self._name, self._call) as run:
            self._name = run.workflow.name
            await run.complete()
            # A workflow may ask no model at all.
            last = run.models.last
            headers = ({} if last is None else headers_of([last])) | _headers_of_run(run)
            response = JSONResponse(self._make_body(run), headers=headers)
            await response(scope, receive_nothing, send)


class QueryResponse(RunResponse):
    """The answer to POST /api/query, whose failures say too that the query has failed."""

    def __init__(
        self,
        workflows: Workflows,
        name: str | None,
        call: WorkflowCall,
        *,
        send_timeout_s: float,
        is_stream: bool,
    ) -> None:
        begin_s = time.monotonic()
        super().__init__(
            workflows,
            name,
            call,
            send_timeout_s=send_timeout_s,
            question_param="query",
            make_body=lambda run: write_result(
                run, request_id=call.request_id, processing_s=time.monotonic() - begin_s
            ),
        )
        self._is_stream = is_stream

    @property
    def _failed(self) -> dict[str, object]:
        return {
            "status": "failed",
            "workflow_type": self._name or AUTO,
            "request_id": self._call.request_id,
        }

    async def _answer(self, scope: Scope, send: Send) -> None:
        answer = self._stream if self._is_stream else self._complete
        try:
            with native_words(self._question_param):
                await answer(scope, send)
        except MuAIError as error:
            await error_response(error, self._failed)(scope, receive_nothing, send)

    async def _stream(self, scope: Scope, send: Send) -> None:
        async with self._workflows.open(self._name, self._call) as run:
            self._name = run.workflow.name
            await send(start_of(_headers_of_run(run)))
            if not run.routing.is_empty:
                await send(part_of(encode_event(run.routing.describe(), name="route")))

            async def send_progress() -> None:
                with native_words(self._question_param):
                    async for event in run:
                        await send(part_of(write_progress(event)))

            failure = await find_failure(send_progress(), scope, self._call.request_id)
            if failure is None:
                end = encode_event(self._make_body(run), name="result")
            else:
                end = encode_event(failure | self._failed, name="error")
        await send({"type": "http.response.body", "body": end, "more_body": False})


def _headers_of_run(run: WorkflowRun) -> dict[str, str]:
    return route_header(run.routing) | effects_header(run.effects)


def write_message(run: WorkflowRun) -> Json:
    """Return the answer to POST /api/chat.

    Raises:
        MuAIError: the turn could not be stored, so the answer is no part of the session.
    """
    kept = run.outcome.values.find(KEPT)
    turn = None if kept is None else kept.turn
    if turn is None:
        raise next(
            (one.error for one in run.outcome.failed),
            StorageError(f"The workflow {run.workflow.name} keeps no turn."),
        )
    return {
        "response": run.outcome.values[ANSWER].text,
        "session_id": turn.session_id,
        "turn_count": turn.num_turns,
        "message_id": turn.message_id,
    }

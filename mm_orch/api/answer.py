"""Answers a generating request: whole or streamed, with exactly one end.

open the generations      an error here is an answer of its own status
wait for the first delta  ... and so is one before any text
stream: start, events, then one of
    the format's end      everything was said
    an error event        it broke off, and says why
    nothing               the client has gone
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from mm_orch.api.errors import envelope, fault_envelope
from mm_orch.api.exchange import ClientGoneError, while_client_stays
from mm_orch.api.fallbacks import headers_of, note_on
from mm_orch.api.fan_in import open_all, read_together
from mm_orch.api.formats import WholeChoice
from mm_orch.core.errors import MuAIError
from mm_orch.core.generation import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from starlette.types import Message, Receive, Scope, Send

    from mm_orch.api.formats import AnswerFormat, Json
    from mm_orch.core.generation import GenerationRequest, TextDelta
    from mm_orch.orchestration.generation import Generation, Generator

    SendMessage = Callable[[Message], Awaitable[None]]

logger = logging.getLogger(__name__)


class GenerationResponse(Response):
    """The answer to one generating request."""

    def __init__(
        self,
        generator: Generator,
        requests: Sequence[GenerationRequest],
        *,
        make_format: Callable[[str], AnswerFormat],
        is_stream: bool,
        send_timeout_s: float,
    ) -> None:
        super().__init__()
        self._generator = generator
        self._requests = requests
        self._make_format = make_format
        self._is_stream = is_stream
        self._send_timeout_s = send_timeout_s
        self._request_id = requests[0].request_id
        self._num_choices = requests[0].options.num_choices

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Generate and send.

        Raises:
            MuAIError: nothing has been sent yet, so the answer can be one about this error.
            ClientGoneError: the client left or stalled; the generation was cancelled.
        """
        await while_client_stays(
            lambda watched_send: self._answer(scope, watched_send),
            receive,
            send,
            timeout_s=self._send_timeout_s,
        )

    async def _answer(self, scope: Scope, send: SendMessage) -> None:
        async with (
            open_all(self._generator, self._requests) as generations,
            read_together(generations, self._num_choices) as deltas,
        ):
            if self._is_stream:
                await self._stream(scope, send, generations, deltas)
            else:
                response = await self._complete(generations, deltas)
                await response(scope, _receive_nothing, send)

    async def _complete(
        self, generations: Sequence[Generation], deltas: AsyncIterator[TextDelta]
    ) -> JSONResponse:
        choices = [WholeChoice() for _ in range(self._num_choices * len(generations))]
        async for delta in deltas:
            choices[delta.index].add(delta)
        body = self._make_format(generations[0].model).whole(choices, _total(generations))
        return JSONResponse(body | note_on(generations), headers=headers_of(generations))

    async def _stream(
        self,
        scope: Scope,
        send: SendMessage,
        generations: Sequence[Generation],
        deltas: AsyncIterator[TextDelta],
    ) -> None:
        written = self._make_format(generations[0].model)
        first = await anext(deltas, None)
        await send(_start_of(headers_of(generations)))
        opening = written.opening(self._num_choices * len(generations))
        await _send_events(send, written, [*opening, *(written.chunks(first) if first else [])])
        # The status has been sent, so a failure is told where the client looks now.
        try:
            async for delta in deltas:
                note = note_on(generations) if delta.finish_reason else {}
                await _send_events(send, written, [chunk | note for chunk in written.chunks(delta)])
        except ClientGoneError:
            raise
        except MuAIError as error:
            _note_failure(scope, error)
            end = written.event(written.failure(envelope(error)))
        except Exception as error:  # boundary: one that just stopped would look like a whole one
            _note_failure(scope, error)
            logger.exception("request %s met a fault within its stream", self._request_id)
            end = written.event(written.failure(fault_envelope(self._request_id)))
        else:
            note = note_on(generations)
            closing = [chunk | note for chunk in written.closing(_total(generations))]
            end = b"".join(map(written.event, closing)) + written.end
        # With the last part, the end of the body costs no write of its own.
        await send({"type": "http.response.body", "body": end, "more_body": False})


def _note_failure(scope: Scope, error: Exception) -> None:
    # For what is told of the exchange: its status says success.
    scope["state"]["stream_error_type"] = type(error).__name__


async def _send_events(send: SendMessage, written: AnswerFormat, events: Sequence[Json]) -> None:
    if events:
        await send(_part(b"".join(map(written.event, events))))


def _part(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}


def _start_of(own_headers: dict[str, str]) -> Message:
    headers = {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache",
        # Proxies such as nginx would collect chunks otherwise.
        "x-accel-buffering": "no",
        **own_headers,
    }
    return {
        "type": "http.response.start",
        "status": 200,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }


def _total(generations: Sequence[Generation]) -> Usage:
    usages = [generation.usage for generation in generations]
    return Usage(
        num_prompt_tokens=sum(usage.num_prompt_tokens for usage in usages),
        num_generated_tokens=sum(usage.num_generated_tokens for usage in usages),
        num_cached_tokens=sum(usage.num_cached_tokens for usage in usages),
        num_reasoning_tokens=sum(usage.num_reasoning_tokens for usage in usages),
    )


async def _receive_nothing() -> Message:
    raise AssertionError("a plain response reads nothing from its client")

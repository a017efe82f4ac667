"""Answers a generating request: whole or streamed, with exactly one end.

open the generations      an error here is an answer of its own status
wait for the first delta  ... and so is one before any text
stream: start, events, then one of
    the format's end      everything was said
    an error event        it broke off, and says why
    nothing               the client has gone
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from mm_orch.api.event_stream import find_failure, part_of, receive_nothing, start_of
from mm_orch.api.fallbacks import headers_of, note_on
from mm_orch.api.fan_in import open_all, read_together
from mm_orch.api.formats import WholeChoice
from mm_orch.api.watched_response import WatchedResponse
from mm_orch.core.generation import total_usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from starlette.types import Scope, Send

    from mm_orch.api.formats import AnswerFormat, Json
    from mm_orch.core.generation import GenerationRequest, TextDelta, Usage
    from mm_orch.orchestration.generation import Generation, Generator


class GenerationResponse(WatchedResponse):
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
        super().__init__(send_timeout_s)
        self._generator = generator
        self._requests = requests
        self._make_format = make_format
        self._is_stream = is_stream
        self._request_id = requests[0].request_id
        self._num_choices = requests[0].options.num_choices

    async def _answer(self, scope: Scope, send: Send) -> None:
        async with (
            open_all(self._generator, self._requests) as generations,
            read_together(generations, self._num_choices) as deltas,
        ):
            if self._is_stream:
                await self._stream(scope, send, generations, deltas)
            else:
                response = await self._complete(generations, deltas)
                await response(scope, receive_nothing, send)

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
        send: Send,
        generations: Sequence[Generation],
        deltas: AsyncIterator[TextDelta],
    ) -> None:
        first = await anext(deltas, None)
        # Which model of a workflow answers is known with its first words.
        written = self._make_format(generations[0].model)
        await send(start_of(headers_of(generations)))
        opening = written.opening(self._num_choices * len(generations))
        await _send_events(send, written, [*opening, *(written.chunks(first) if first else [])])

        async def send_rest() -> None:
            async for delta in deltas:
                note = note_on(generations) if delta.finish_reason else {}
                await _send_events(send, written, [chunk | note for chunk in written.chunks(delta)])

        failure = await find_failure(send_rest(), scope, self._request_id)
        if failure is None:
            note = note_on(generations)
            closing = [chunk | note for chunk in written.closing(_total(generations))]
            end = b"".join(map(written.event, closing)) + written.end
        else:
            end = written.event(written.failure(failure))
        # With the last part, the end of the body costs no write of its own.
        await send({"type": "http.response.body", "body": end, "more_body": False})


async def _send_events(send: Send, written: AnswerFormat, events: Sequence[Json]) -> None:
    if events:
        await send(part_of(b"".join(map(written.event, events))))


def _total(generations: Sequence[Generation]) -> Usage:
    return total_usage(generation.usage for generation in generations)

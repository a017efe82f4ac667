"""An application that answers chats with as many equal pieces as they ask for.

The model that a chat names says when they come: all at once, or apart, as tokens do.
It needs nothing but Python, so that everybody's processes can import it.
"""

from __future__ import annotations

import asyncio
import functools
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Receive = Callable[[], Awaitable[Mapping[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

AT_ONCE, APART = "at_once", "apart"
READY_PATH = "/health"
APART_MS = 5
_INTERVAL_S_BY_MODEL = {AT_ONCE: 0.0, APART: APART_MS / 1000}
_PIECE = "word "


class Answers:
    """The application, as ASGI has it.

    An object whose class says that calling it is async: Serve takes a function for one that builds
    an application, and uvicorn, which runs in Serve's replicas too, takes anything that is called
    otherwise, such as a partial of a coroutine function, for an application of ASGI 2.
    """

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request, or take part in the start and the end of a server."""
        if scope["type"] == "lifespan":
            # Serve starts no application that leaves these without an answer.
            for stage in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{stage}.complete"})
            return
        body = await _read(receive)
        if body:
            await _send_pieces(json.loads(body), send)
        else:
            await _begin(send, b"application/json")
            await _send(send, b"{}", is_last=True)


async def _read(receive: Receive) -> bytes:
    body, is_complete = b"", False
    while not is_complete:
        message = await receive()
        body += message.get("body", b"")
        is_complete = not message.get("more_body", False)
    return body


async def _send_pieces(asked: Mapping[str, Any], send: Send) -> None:
    interval_s = _INTERVAL_S_BY_MODEL[asked["model"]]
    pieces, end = _answer(asked["model"], int(asked["max_tokens"]))
    await _begin(send, b"text/event-stream")
    for number, piece in enumerate(pieces):
        if number and interval_s:
            await asyncio.sleep(interval_s)
        await _send(send, piece)
    await _send(send, end, is_last=True)


async def _begin(send: Send, kind: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})


async def _send(send: Send, body: bytes, *, is_last: bool = False) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": not is_last})


@functools.cache
def _answer(model: str, num_pieces: int) -> tuple[list[bytes], bytes]:
    """Return the events of an answer, and what ends it."""
    usage = {"prompt_tokens": 1, "completion_tokens": num_pieces, "total_tokens": 1 + num_pieces}
    piece = _event(model, [{"index": 0, "delta": {"content": _PIECE}}])
    end = _event(model, [{"index": 0, "delta": {}, "finish_reason": "length"}])
    return [piece] * num_pieces, end + _event(model, [], usage=usage) + b"data: [DONE]\n\n"


def _event(model: str, choices: list[dict[str, object]], **fields: object) -> bytes:
    head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": model}
    return b"data: " + json.dumps({**head, "choices": choices, **fields}).encode() + b"\n\n"

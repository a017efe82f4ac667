"""An application that answers chats with as many equal pieces as they ask for.

usage: python -m benchmarks.servers.asgi_answers bare|serve PORT

bare   uvicorn runs it
serve  Ray Serve runs it: one replica behind its HTTP proxy, on a cluster of this process's own

It needs an interpreter that has Ray Serve, which brings uvicorn.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

BARE, SERVE = "bare", "serve"
MODEL = "equal-pieces"
READY_PATH = "/health"
_HOST = "127.0.0.1"
_PIECE = "word "
# More than clients ask at once: what waits in a queue is not what is measured.
_MAX_RUNNING = 100


async def answer(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer a request, as ASGI has it."""
    if scope["type"] != "http":
        return
    body, is_complete = b"", False
    while not is_complete:
        message = await receive()
        body += message.get("body", b"")
        is_complete = not message.get("more_body", False)
    kind = b"text/event-stream" if body else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    for piece in _pieces(int(json.loads(body)["max_tokens"])) if body else (b"{}",):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@functools.cache
def _pieces(num_pieces: int) -> tuple[bytes, ...]:
    usage = {"prompt_tokens": 1, "completion_tokens": num_pieces, "total_tokens": 1 + num_pieces}
    said = [_event([{"index": 0, "delta": {"content": _PIECE}}]) for _ in range(num_pieces)]
    end = _event([{"index": 0, "delta": {}, "finish_reason": "length"}])
    return (*said, end, _event([], usage=usage), b"data: [DONE]\n\n")


def _event(choices: list[dict[str, object]], **fields: object) -> bytes:
    head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return b"data: " + json.dumps({**head, "choices": choices, **fields}).encode() + b"\n\n"


def _run_bare(port: int) -> None:
    import uvicorn

    uvicorn.run(answer, host=_HOST, port=port, log_level="warning")


def _run_serve(port: int) -> None:
    import ray
    from ray import serve

    ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    serve.start(http_options={"host": _HOST, "port": port})
    deployment = serve.deployment(max_ongoing_requests=_MAX_RUNNING)(
        serve.ingress(answer)(_Replica)
    )
    serve.run(deployment.bind(), route_prefix="/")
    while True:
        time.sleep(3600)


class _Replica:
    """What Serve runs; all that it does is :func:`answer`."""


def main(arguments: Sequence[str]) -> None:
    """Serve until the process is ended."""
    how, port = arguments
    {BARE: _run_bare, SERVE: _run_serve}[how](int(port))


if __name__ == "__main__":
    main(sys.argv[1:])

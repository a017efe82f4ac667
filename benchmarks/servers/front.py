"""The HTTP front of engines that bring none: streams over SSE, with keep-alive.

Standard library only, so that it runs in any peer's environment. It is as thin as a front can be,
so what is measured behind it is the engine.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_HEAD_BYTES = 1 << 16


class Job:
    """One request on its way through an engine; safe to feed from any thread."""

    def __init__(self, token_ids: list[int], max_tokens: int) -> None:
        self.token_ids = token_ids
        self.max_tokens = max_tokens
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[list[int] | str | None] = asyncio.Queue()

    def emit(self, token_ids: Sequence[int]) -> None:
        """Hand on tokens as they are generated."""
        self._put(list(token_ids))

    def end(self, error: str | None = None) -> None:
        """Say that nothing more comes."""
        self._put(error)

    async def take(self) -> list[int] | str | None:
        """Return the next tokens, None at the end, or the error as a string."""
        return await self._queue.get()

    def _put(self, item: list[int] | str | None) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, item)


class Engine(Protocol):
    """What the front needs of an engine."""

    def encode(self, body: dict[str, Any]) -> list[int]:
        """Return the prompt's tokens of a request's body (``prompt`` or ``messages``)."""

    def decode(self, token_ids: list[int]) -> str:
        """Return the text of a few new tokens."""

    def submit(self, job: Job) -> None:
        """Take a job; called on the event loop, returns at once."""


def serve(engine: Engine, port: int) -> None:
    """Serve until the process is ended."""
    asyncio.run(_serve(engine, port))


async def _serve(engine: Engine, port: int) -> None:
    server = await start(engine, port)
    print(f"listens on port {port}", file=sys.stderr, flush=True)
    await server.serve_forever()


async def start(engine: Engine, port: int) -> asyncio.Server:
    """Listen; each connection may ask again and again."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await _answer_one(engine, reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the client is gone, which ends its connection
        finally:
            writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", port, limit=_MAX_HEAD_BYTES)


async def _answer_one(
    engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    if head[0].startswith("GET "):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        return headers.get("connection") != "close"
    body = json.loads(await reader.readexactly(int(headers["content-length"])))
    job = Job(engine.encode(body), int(body["max_tokens"]))
    engine.submit(job)
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    await _stream(engine, job, writer, is_chat="messages" in body)
    return True


async def _stream(engine: Engine, job: Job, writer: asyncio.StreamWriter, *, is_chat: bool) -> None:
    num_tokens = 0
    while True:
        item = await job.take()
        if isinstance(item, str):
            _write(writer, _event({"error": {"message": item}}))
            break
        if item is None:
            break
        num_tokens += len(item)
        text = engine.decode(item)
        piece = {"delta": {"content": text}} if is_chat else {"text": text}
        _write(writer, _event({"choices": [{"index": 0, **piece}]}))
        await writer.drain()
    usage = {"prompt_tokens": len(job.token_ids), "completion_tokens": num_tokens}
    _write(writer, _event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n")
    writer.write(b"0\r\n\r\n")
    await writer.drain()


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

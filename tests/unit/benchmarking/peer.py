"""A server over real sockets that says what the test tells it to say, asyncio throughout."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mm_orch.benchmarking.client import Target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def event(content: object) -> bytes:
    data = content if isinstance(content, str) else json.dumps(content)
    return f"data: {data}\n\n".encode()


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def usage(num_prompt: int, num_output: int, num_cached: int | None = None) -> dict[str, Any]:
    details = {} if num_cached is None else {"prompt_tokens_details": {"cached_tokens": num_cached}}
    counts = {"prompt_tokens": num_prompt, "completion_tokens": num_output}
    return {"choices": [], "usage": {**counts, **details}}


def answer(body: dict[str, Any]) -> bytes:
    """As many words as tokens are asked for; a chat's hold its number of messages."""
    is_chat = "messages" in body
    word = f"w{len(body['messages'])} " if is_chat else "w "
    piece = {"delta": {"content": word}} if is_chat else {"text": word}
    events = [event({"choices": [{"index": 0, **piece}]})] * body["max_tokens"]
    end = event(usage(10, body["max_tokens"], 4)) + event("[DONE]")
    return STREAM_HEAD + b"".join(map(chunk, [*events, end])) + chunk(b"")


@dataclass
class Peer:
    """What it answers, and what it was asked."""

    answer: Callable[[dict[str, Any]], bytes] = answer
    # Closes each connection after so many requests; the client is not told beforehand.
    max_requests: int = 1_000_000
    bodies: list[dict[str, Any]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    num_connections: int = 0
    num_open: int = 0
    most_open: int = 0
    # Requests wait until so many are there.
    barrier: asyncio.Barrier | None = None
    target: Target = field(default_factory=lambda: Target(host="", port=0, model="m"))
    # Released for each connection that the client has closed.
    left: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            for _ in range(self.max_requests):
                await self._answer_one(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.release()
        finally:
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        lengths = [line for line in head.lower().split("\r\n") if line.startswith("content-length")]
        body = {}
        if lengths:
            body = json.loads(await reader.readexactly(int(lengths[0].partition(":")[2])))
            self.bodies.append(body)
        self.num_open += 1
        self.most_open = max(self.most_open, self.num_open)
        if self.barrier is not None:
            await self.barrier.wait()
        self.num_open -= 1
        writer.write(self.answer(body))
        await writer.drain()


@asynccontextmanager
async def serving(peer: Peer) -> AsyncIterator[Peer]:
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    peer.target = Target(host="127.0.0.1", port=port, model="m", key=peer.target.key)
    try:
        yield peer
    finally:
        server.close()
        await server.wait_closed()

"""An application behind a real server on a real socket, and a client that speaks raw HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvicorn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp

# Nothing here takes so long; it ends a test that would hang.
PATIENCE_S = 20
_HOST = "127.0.0.1"


@asynccontextmanager
async def serve(app: ASGIApp) -> AsyncIterator[int]:
    """Serve on a free port, which is given, until the context ends."""
    with socket.socket() as listener:
        listener.bind((_HOST, 0))
        listener.listen()
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield int(listener.getsockname()[1])
        finally:
            server.should_exit = True
            await serving


@dataclass
class Reply:
    """Status, headers by lower-case name, and the body as far as it was read."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, path: str, body: object, *headers: str, method: str = "POST") -> None:
        """Send a whole request."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_head(path, f"Content-Length: {len(content)}", *headers, method=method)
        self.writer.write(content)

    def send_head(self, path: str, *headers: str, method: str = "POST") -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: face", *headers, "", ""]
        self.writer.write("\r\n".join(lines).encode())

    async def read_head(self) -> Reply:
        async with asyncio.timeout(PATIENCE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        pairs = (line.partition(": ") for line in lines)
        return Reply(int(first.split()[1]), {name.lower(): value for name, _, value in pairs})

    async def read_reply(self) -> Reply:
        """Read a whole answer."""
        reply = await self.read_head()
        async with asyncio.timeout(PATIENCE_S):
            if "content-length" in reply.headers:
                size = int(reply.headers["content-length"])
                reply.body = await self.reader.readexactly(size)
            else:
                reply.body = b"".join([part async for part in self.read_parts()])
        return reply

    async def read_parts(self) -> AsyncIterator[bytes]:
        """Read the parts of a chunked body to its end."""
        while True:
            async with asyncio.timeout(PATIENCE_S):
                size = int(await self.reader.readline(), 16)
                part = await self.reader.readexactly(size + 2)
            if size == 0:
                return
            yield part[:-2]

    async def leave(self) -> None:
        """Close the connection at once, whatever was not read."""
        self.writer.transport.abort()


@asynccontextmanager
async def call(port: int, *, max_unread_bytes: int | None = None) -> AsyncIterator[Caller]:
    """Connect to the server; a small ``max_unread_bytes`` makes a client that stalls early."""
    connection = socket.socket()
    if max_unread_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, max_unread_bytes)
    connection.setblocking(False)  # noqa: FBT003 - the socket's own word
    await asyncio.get_running_loop().sock_connect(connection, (_HOST, port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=max_unread_bytes or 2**16)
    try:
        yield Caller(reader, writer)
    finally:
        writer.transport.abort()

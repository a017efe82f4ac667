"""A server of pages on this machine, byte by byte as a test wants them; and a resolver of names."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


def respond(
    body: bytes = b"", *, status: int = 200, kind: str = "text/html", **headers: str
) -> bytes:
    """Return a whole answer; a keyword of a header has _ for -."""
    named = {"Content-Type": kind, "Content-Length": str(len(body))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in named.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def redirect(location: str, status: int = 302) -> bytes:
    return respond(status=status, Location=location)


@dataclass
class PageServer:
    """Answers by path.

    Attributes:
        answers: a whole answer, or what writes one.
        requests: the heads of all that were asked for, in small letters.
        num_connections: made so far.
    """

    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    num_connections: int = 0

    def url(self, host: str, path: str = "/") -> str:
        return f"http://{host}:{self.port}{path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        with (
            contextlib.closing(writer),
            contextlib.suppress(
                ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError
            ),
        ):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head.lower())
            path = head.split(" ", 2)[1]
            answer = self.answers.get(path) or self.answers.get(path.partition("?")[0])
            if answer is None:
                writer.write(respond(status=404))
            elif isinstance(answer, bytes):
                writer.write(answer)
            else:
                await answer(writer)
            await writer.drain()


@asynccontextmanager
async def serve_pages(
    answers: Mapping[str, Answer] | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[PageServer]:
    """Serve until this is left; then whatever is still being written is ended."""
    pages = PageServer(answers=dict(answers or {}))
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await pages._serve(reader, writer)

    server = await asyncio.start_server(accept, host, port)
    pages.port = server.sockets[0].getsockname()[1]
    try:
        yield pages
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Names:
    """Resolves names as a test says: one answer after another, the last one for ever.

    Attributes:
        asked: all names that were asked for.
    """

    answers: dict[str, list[Sequence[str]]]
    asked: list[str] = field(default_factory=list)

    async def __call__(self, name: str) -> Sequence[str]:
        self.asked.append(name)
        if name not in self.answers:
            raise OSError(f"{name} is not known")
        answers = self.answers[name]
        return answers.pop(0) if len(answers) > 1 else answers[0]

"""A real HTTP server that takes alerts, refuses them, or is silent, and wakes who waits for it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_PATIENCE_S = 60


class Receiver:
    """Keeps every body; answers with the statuses it is given in order, then with 200.

    While ``is_silent``, it answers nothing at all until it is closed.
    """

    def __init__(self, *statuses: int) -> None:
        self.bodies: list[Any] = []
        self.paths: list[str] = []
        self.is_silent = False
        self.url = ""
        self._statuses = list(statuses)
        self._closing = asyncio.Event()
        self._has_news = asyncio.Event()

    def bodies_to(self, path: str) -> list[Any]:
        """What came to one path, from the oldest on."""
        # A body is there before its path is: in another thread, one may be seen without it.
        return [body for place, body in zip(self.paths, self.bodies, strict=False) if place == path]

    async def wait_for(self, num_bodies: int) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            while len(self.bodies) < num_bodies:
                self._has_news.clear()
                await self._has_news.wait()

    async def _take(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        self.paths.append(request.path)
        self._has_news.set()
        if self.is_silent:
            await self._closing.wait()
        status = self._statuses.pop(0) if self._statuses else 200
        return web.Response(status=status, text="a reason", headers={"Location": "/elsewhere"})

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Receiver]:
        application = web.Application()
        application.router.add_post("/{path:.*}", self._take)
        runner = web.AppRunner(application, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        address = runner.addresses[0]
        self.url = f"http://{address[0]}:{address[1]}"
        try:
            yield self
        finally:
            self._closing.set()
            await runner.cleanup()


@contextmanager
def run_receiver(receiver: Receiver) -> Iterator[Receiver]:
    """Let it serve in a thread of its own, for tests without an event loop."""
    loop = asyncio.new_event_loop()
    has_begun = threading.Event()
    may_end = asyncio.Event()

    async def serve() -> None:
        async with receiver.serve():
            has_begun.set()
            await may_end.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert has_begun.wait(_PATIENCE_S)
    try:
        yield receiver
    finally:
        loop.call_soon_threadsafe(may_end.set)
        thread.join(_PATIENCE_S)
        loop.close()

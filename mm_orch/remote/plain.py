"""A way to a server over HTTP/1.1 that costs little for each request and each piece of a stream.

It knows what model servers nearby need: no TLS, no proxy, no redirects. See ``library`` for those.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import httptools

from mm_orch.core.version import __version__
from mm_orch.remote.channel import BrokenChannelError, SilentChannelError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

_DEFAULT_PORT = 80
_NUM_KEPT = 64
# Shorter than the time after which servers close a connection that nobody uses.
_KEPT_S = 4.0
# So long a reply that is finished may take to be complete.
_REST_S = 1.0
_FIRST_FINAL_STATUS = 200
# A reader that is slower than the server holds the server up.
_MAX_HELD_BYTES = 1 << 18


class PlainChannel:
    """Connections to one server, kept open between requests.

    Args:
        base: the address, with the path that all requests share.
        headers: of every request.
        connect_s: longest time to connect.
    """

    def __init__(self, base: str, headers: Mapping[str, str], *, connect_s: float) -> None:
        parts = urlsplit(base)
        self._host, self._port = parts.hostname or "", parts.port or _DEFAULT_PORT
        self._prefix = parts.path.rstrip("/")
        fixed = {
            "Host": parts.netloc,
            "User-Agent": f"muai/{__version__}",
            "Accept-Encoding": "identity",
            **headers,
        }
        self._head = "".join(f"{name}: {value}\r\n" for name, value in fixed.items())
        self._connect_s = connect_s
        self._kept: list[PlainConnection] = []
        self._is_closed = False

    async def ask(
        self, method: str, path: str, body: bytes, *, silence_s: float
    ) -> PlainConnection:
        """Send a request and wait for the head of the reply; see Channel."""
        about = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {self._prefix}{path} HTTP/1.1\r\n{self._head}{about}\r\n"
        request = head.encode() + body
        while (kept := self._find_kept()) is not None:
            try:
                await kept.exchange(request, silence_s)
            except BrokenChannelError:
                # A server may close a kept connection at any time, so also at this one.
                if kept.has_answered:
                    raise
            else:
                return kept
        fresh = await self._connect()
        await fresh.exchange(request, silence_s)
        return fresh

    async def aclose(self) -> None:
        """Close every connection that is not in use; those in use close when they are left."""
        self._is_closed = True
        while self._kept:
            self._kept.pop().close()

    def _find_kept(self) -> PlainConnection | None:
        now_s = asyncio.get_running_loop().time()
        while self._kept:
            kept = self._kept.pop()
            if kept.is_open and now_s - kept.kept_at_s < _KEPT_S:
                return kept
            kept.close()
        return None

    def _keep(self, connection: PlainConnection) -> None:
        if self._is_closed or len(self._kept) >= _NUM_KEPT:
            connection.close()
        else:
            self._kept.append(connection)

    async def _connect(self) -> PlainConnection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s):
                _, connection = await loop.create_connection(
                    lambda: PlainConnection(self._keep), self._host, self._port
                )
        except TimeoutError:
            raise BrokenChannelError(f"no connection within {self._connect_s:g} s") from None
        except OSError as error:
            raise BrokenChannelError(str(error) or type(error).__name__) from error
        return connection


class PlainConnection(asyncio.Protocol):
    """One connection, and the reply to the request that it carries; implements Reply.

    Its methods named ``on_...`` are called by the parser.

    Attributes:
        status: of the reply.
        retry_after: that header.
        has_answered: something came since the request was sent.
        kept_at_s: when it was last free.
    """

    def __init__(self, keep: Callable[[PlainConnection], None]) -> None:
        self.status = 0
        self.retry_after = ""
        self.has_answered = False
        self.kept_at_s = 0.0
        self._keep = keep
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._silence_s = 0.0
        self._patience: asyncio.TimerHandle | None = None
        self._begin()

    @property
    def is_open(self) -> bool:
        """Whether neither side has closed it."""
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, request: bytes, silence_s: float) -> None:
        """Send a request and wait for the head of its reply; a failure closes the connection."""
        self._begin()
        self._silence_s = silence_s
        try:
            self._write(request)
            while not self._has_head:
                await self._wait()
        except BaseException:
            self.close()
            raise

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Yield the body as it comes; see Reply."""
        while True:
            while self._held:
                piece = b"".join(self._held)
                self._held.clear()
                self._num_held = 0
                self._pause(is_paused=False)
                yield piece
            if self._is_complete:
                return
            await self._wait()

    def finish(self) -> None:
        """Want nothing more of the reply; see Reply."""
        self._is_finished = True

    async def aclose(self) -> None:
        """Keep the connection where it can be used again, else close it."""
        self._is_left = True
        if self._is_complete or not self._is_finished:
            self._leave()
        else:
            self._pause(is_paused=False)
            # What is left comes at once, or the connection is not worth waiting for.
            self._patience = self._loop.call_later(_REST_S, self.close)

    def close(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are not of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read."""
        self.has_answered = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as fault:
            self._break(f"no HTTP: {fault}")
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """End what was being read: a body of no stated length ends with its connection."""
        self._transport = None
        self._is_reusable = False
        if self._has_head and not self._has_length and exc is None:
            self._is_complete = True
        elif not self._is_complete:
            self._break(f"it broke off{f': {exc}' if exc else ''}")
        self._wake()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note what is of use."""
        name = name.lower()
        if name in {b"content-length", b"transfer-encoding"}:
            self._has_length = True
        elif name == b"retry-after":
            self.retry_after = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Let the reader begin, unless the real reply is still to come."""
        self.status = self._parser.get_status_code()
        self._has_head = self.status >= _FIRST_FINAL_STATUS

    def on_body(self, data: bytes) -> None:
        """Hold it for the reader."""
        if self._is_left:
            return
        self._held.append(data)
        self._num_held += len(data)
        if self._num_held > _MAX_HELD_BYTES:
            self._pause(is_paused=True)

    def on_message_complete(self) -> None:
        """End the reply."""
        if not self._has_head:
            return
        self._is_complete = True
        self._is_reusable = self._parser.should_keep_alive()
        if self._is_left:
            self._leave()

    def _write(self, request: bytes) -> None:
        if self._transport is None or not self.is_open:
            raise BrokenChannelError("the connection is closed")
        self._transport.write(request)

    def _begin(self) -> None:
        """Forget the last exchange."""
        self.status, self.retry_after, self.has_answered = 0, "", False
        self._held: list[bytes] = []
        self._num_held = 0
        self._fault: BrokenChannelError | SilentChannelError | None = None
        self._has_head = self._has_length = self._is_complete = self._is_reusable = False
        self._is_finished = self._is_left = self._is_paused = False
        self._patience = None

    def _leave(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        if self._is_reusable and self.is_open:
            self.kept_at_s = self._loop.time()
            self._keep(self)
        else:
            self.close()

    def _pause(self, *, is_paused: bool) -> None:
        if is_paused == self._is_paused or self._transport is None:
            return
        self._is_paused = is_paused
        if is_paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    async def _wait(self) -> None:
        """Wait until something has come, or raise what went wrong."""
        if self._fault is None:
            self._waiter = self._loop.create_future()
            limit = self._loop.call_later(self._silence_s, self._end_silence)
            try:
                await self._waiter
            finally:
                limit.cancel()
                self._waiter = None
        if self._fault is not None and not self._held:
            raise self._fault

    def _end_silence(self) -> None:
        self._fault = SilentChannelError(f"silent for {self._silence_s:g} s")
        self.close()
        self._wake()

    def _break(self, reason: str) -> None:
        self._fault = self._fault or BrokenChannelError(reason)
        self.close()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

"""A keep-alive HTTP/1.1 client for streamed answers that costs little processor time."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httptools
import msgspec

from mm_orch.benchmarking.stream_reader import StreamReader
from mm_orch.core.errors import InvalidValueError, NoServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_OK = 200
_NOT_ALLOWED = (401, 403)
_TOO_MUCH = (429, 503)
_MAX_SHOWN_BYTES = 300
_CONNECT_TIMEOUT_S = 10.0
_PORT_BY_SCHEME = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server and what to ask it for.

    Attributes:
        prefix: path before /v1, for a server behind another path.
        is_secure: over TLS, with a certificate that this system trusts.
        takes_ignore_eos: requests may ask to go on past the end of text; not all servers know it.
    """

    host: str
    port: int
    model: str
    prefix: str = ""
    key: str | None = None
    is_secure: bool = False
    takes_ignore_eos: bool = True

    @classmethod
    def parse(cls, url: str, *, model: str, key: str | None = None) -> Target:
        """Read a URL such as http://127.0.0.1:8000, with or without /v1.

        Raises:
            InvalidValueError: it is no http:// or https:// URL.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or _PORT_BY_SCHEME.get(parts.scheme, 0)
        except ValueError:
            parts, port = urlsplit(""), 0
        if parts.scheme not in _PORT_BY_SCHEME or not parts.hostname:
            raise InvalidValueError(
                f"{url!r} is no address of a server; give one like http://127.0.0.1:8000."
            )
        prefix = parts.path.rstrip("/").removesuffix("/v1")
        return cls(
            host=parts.hostname,
            port=port,
            model=model,
            prefix=prefix,
            key=key,
            is_secure=parts.scheme == "https",
        )

    @property
    def url(self) -> str:
        """The address, without /v1."""
        scheme = "https" if self.is_secure else "http"
        return f"{scheme}://{self.authority}{self.prefix}"

    @property
    def authority(self) -> str:
        """Host and port as a URL and a request's head name them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Client:
    """Connections to one server, kept open between requests.

    Args:
        timeout_s: longest silence in an answer.
    """

    def __init__(self, target: Target, *, timeout_s: float) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._idle: list[_Connection] = []
        self._head = f"{_head_of(target)}Content-Type: application/json\r\n"
        # Read from the disk once, not for each connection.
        self._tls = _tls_of(target)

    async def post(
        self,
        path: str,
        body: Mapping[str, object],
        *,
        request_id: str = "",
        on_sent: Callable[[], None] | None = None,
    ) -> StreamReader:
        """Ask, and read the whole answer; what goes wrong stands in its ``error``.

        Cancelling this closes the connection: for the server, its client has gone.

        Args:
            path: after the target's prefix.
            body: of the request.
            request_id: that the server is to call the request; empty leaves it to the server.
            on_sent: called when the request has been sent, before anything is awaited.
        """
        data = msgspec.json.encode(body)
        name = f"X-Request-ID: {request_id}\r\n" if request_id else ""
        head = (
            f"POST {self._target.prefix}{path} HTTP/1.1\r\n{self._head}{name}"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        request = head.encode() + data
        while self._idle:
            kept = self._idle.pop()
            if kept.is_open:
                reader = await self._exchange(kept, request, on_sent)
                # A server may close a kept connection at any time, so also at this one.
                if not kept.is_stale:
                    return reader
        try:
            fresh = await _connect(self._target, self._tls)
        except (OSError, TimeoutError) as fault:
            reader = StreamReader()
            reader.error = f"no connection: {str(fault) or type(fault).__name__}"
            return reader
        return await self._exchange(fresh, request, on_sent)

    def close(self) -> None:
        """Close what is open."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _exchange(
        self, connection: _Connection, request: bytes, on_sent: Callable[[], None] | None
    ) -> StreamReader:
        try:
            connection.send(request)
            if on_sent is not None:
                on_sent()
            return await connection.read(self._timeout_s)
        finally:
            # Of an answer that nobody waits for any more, the rest is not read.
            if connection.is_reusable:
                self._idle.append(connection)
            else:
                connection.close()


async def read_json(target: Target, path: str) -> object:
    """Return what a path answers to GET.

    Raises:
        NoServerError: nothing answers there, or with something else than 200 and JSON.
    """
    head = f"GET {target.prefix}{path} HTTP/1.1\r\n{_head_of(target)}Connection: close\r\n\r\n"
    try:
        connection = await _connect(target, _tls_of(target))
        connection.send(head.encode())
        reader = await connection.read(_CONNECT_TIMEOUT_S)
    except OSError as fault:
        raise NoServerError(
            f"No server answers at {target.url}: {str(fault) or type(fault).__name__}.",
            remedy="Start it, or give another --url.",
        ) from fault
    connection.close()
    try:
        if reader.error is not None:
            raise NoServerError(
                f"{target.url}{path}: {reader.error}.", remedy=remedy_of(reader.error)
            )
        return msgspec.json.decode(connection.body)
    except msgspec.MsgspecError as fault:
        raise NoServerError(f"{target.url}{path} gives no JSON: {fault}.") from fault


def remedy_of(error: str) -> str:
    """Return what to do about a refusal, or nothing."""
    is_locked = any(error.startswith(f"HTTP {status}:") for status in _NOT_ALLOWED)
    return "Give its key in MUAI_API_KEY or OPENAI_API_KEY." if is_locked else ""


def _head_of(target: Target) -> str:
    key = f"Authorization: Bearer {target.key}\r\n" if target.key else ""
    return f"Host: {target.authority}\r\n{key}"


def _tls_of(target: Target) -> ssl.SSLContext | None:
    return ssl.create_default_context() if target.is_secure else None


async def _connect(target: Target, tls: ssl.SSLContext | None) -> _Connection:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_CONNECT_TIMEOUT_S):
        _, connection = await loop.create_connection(_Connection, target.host, target.port, ssl=tls)
    return connection


class _Connection(asyncio.Protocol):
    """One connection; one request at a time.

    Its methods named ``on_...`` are called by the parser.

    Attributes:
        is_reusable: the last answer was read to its end, and the server keeps the connection.
        is_stale: the server closed it without a byte of an answer to the last request.
        body: of an answer that is no stream.
    """

    def __init__(self) -> None:
        self.is_reusable = False
        self.is_stale = False
        self.body = b""
        self._transport: asyncio.Transport | None = None
        self._reader = StreamReader()
        self._parser = httptools.HttpResponseParser(self)
        self._end: asyncio.Future[None] | None = None
        self._now_s = 0.0
        self._is_stream = False
        self._is_answered = False

    @property
    def is_open(self) -> bool:
        """Whether neither side has closed it."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes) -> None:
        """Send a request, whose answer is to be read next."""
        self._reader = StreamReader()
        self._parser = httptools.HttpResponseParser(self)
        self._end = asyncio.get_running_loop().create_future()
        self._now_s = time.perf_counter()
        self.is_reusable = self.is_stale = self._is_answered = False
        if self._transport is None or not self.is_open:
            self._fail("the connection is closed")
        else:
            self._transport.write(request)

    async def read(self, timeout_s: float) -> StreamReader:
        """Read the answer to what was sent."""
        while self._end is not None and not self._end.done():
            heard_s = self._now_s
            await asyncio.wait([self._end], timeout=timeout_s)
            if not self._end.done() and heard_s == self._now_s:
                self._fail(f"silent for {timeout_s:g} s")
        return self._reader

    def close(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Note the time, once for all that came together, and read."""
        self._now_s = time.perf_counter()
        self._is_answered = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as fault:
            self._fail(f"no HTTP: {fault}")

    def connection_lost(self, exc: Exception | None) -> None:
        """End what was being read."""
        self.is_stale = not self._is_answered
        if self._is_stream and self._reader.is_complete:
            self._finish()
        else:
            self._fail(f"the connection broke off{f': {exc}' if exc else ''}")

    def on_message_begin(self) -> None:
        """Begin an answer."""
        self._is_stream = False
        self.body = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        """See whether events come, and when one who is refused may come again."""
        if name.lower() == b"content-type":
            self._is_stream = value.startswith(b"text/event-stream")
        elif name.lower() == b"retry-after" and value.isdigit():
            self._reader.retry_after_s = int(value)

    def on_body(self, data: bytes) -> None:
        """Read events, or collect anything else."""
        if self._is_stream:
            self._reader.feed(data, self._now_s)
        else:
            self.body += data

    def on_message_complete(self) -> None:
        """End the answer."""
        status = self._parser.get_status_code()
        self.is_reusable = self._parser.should_keep_alive()
        if status != _OK:
            shown = self.body[:_MAX_SHOWN_BYTES].decode(errors="replace")
            self._reader.is_turned_away = status in _TOO_MUCH
            self._fail(f"HTTP {status}: {shown}")
        elif self._is_stream and not self._reader.is_complete:
            self._fail("the stream ended early")
        self._finish()

    def _fail(self, reason: str) -> None:
        if self._end is not None and not self._end.done():
            self._reader.error = self._reader.error or reason
        self._finish()

    def _finish(self) -> None:
        if self._end is not None and not self._end.done():
            self._end.set_result(None)

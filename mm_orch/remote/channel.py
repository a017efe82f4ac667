"""The way to another server: replies whose bytes come piece by piece, over kept connections.

aiohttp, because its parser is compiled: for a stream of eight pieces it takes a third of the
processor time that httpx2 takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp

from mm_orch.core.trace import CURRENT

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping

# Shorter than the time after which servers close a connection that nobody uses.
_KEPT_S = 4.0
# So long a reply that is finished may take to be complete.
_REST_S = 0.05


class BrokenChannelError(ConnectionError):
    """The server cannot be reached, or the connection broke off."""


class SilentChannelError(Exception):
    """The server said nothing for too long."""


class Channel:
    """Connections to one server, kept open between requests. Made on the event loop.

    Args:
        base: the address, with the path that all requests share.
        headers: of every request.
        connect_s: longest time to connect.
        server_name: by which the server is asked, where the address holds an IP address that was
            found; such a server is asked directly, past any proxy.
    """

    def __init__(
        self, base: str, headers: Mapping[str, str], *, connect_s: float, server_name: str = ""
    ) -> None:
        # How many requests run at once is bounded by admission.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_S)
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={**headers, "Host": _host_of(base, server_name)} if server_name else headers,
            proxy=None if server_name else _find_proxy(base),
        )
        self._tls_name = server_name or None
        self._base = base
        self._connect_s = connect_s

    async def ask(self, method: str, path: str, body: bytes, *, silence_s: float) -> Reply:
        """Send a request and wait for the head of the reply.

        Args:
            method: GET or POST.
            path: below the server's base.
            body: JSON, or nothing.
            silence_s: longest wait for anything from the server.

        Raises:
            BrokenChannelError: there is no connection, or it broke off.
            SilentChannelError: no head came in time.
        """
        with _translated():
            try:
                return await self._ask(method, path, body, silence_s)
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # A server may close a kept connection at any time, so also at this one.
                return await self._ask(method, path, body, silence_s)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def _ask(self, method: str, path: str, body: bytes, silence_s: float) -> Reply:
        return Reply(
            await self._session.request(
                method,
                self._base + path,
                data=body or None,
                headers=_headers_of(body),
                timeout=aiohttp.ClientTimeout(sock_connect=self._connect_s, sock_read=silence_s),
                allow_redirects=False,
                server_hostname=self._tls_name,
            )
        )


class Reply:
    """A reply whose head has come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.retry_after = response.headers.get("retry-after", "")
        self._response = response
        self._is_finished = False

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Yield the body as it comes; to be called once.

        Raises:
            BrokenChannelError, SilentChannelError: it did not come to its end.
        """
        with _translated():
            async for piece in self._response.content.iter_any():
                yield piece

    def finish(self) -> None:
        """Say that all of interest has come: the connection may be kept once the rest is there."""
        self._is_finished = True

    async def aclose(self) -> None:
        """End the exchange; unless it is finished or has come whole, this closes the connection."""
        if self._is_finished:
            # A connection is used again only when nothing is left in it.
            with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                async with asyncio.timeout(_REST_S):
                    await self._response.content.read()
        self._response.close()


async def read_lines(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Yield a body's lines.

    They end at a line feed alone: within JSON other characters that end lines stand for themselves.
    """
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest


async def read_whole(reply: Reply) -> bytes:
    """Return the whole body."""
    return b"".join([piece async for piece in reply.pieces()])


def _headers_of(body: bytes) -> dict[str, str]:
    headers = {"Content-Type": "application/json"} if body else {}
    # What the other server does belongs to the same trace.
    if (trace := CURRENT.get()) is not None:
        headers["traceparent"] = trace.traceparent
        if trace.state:
            headers["tracestate"] = trace.state
    return headers


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Name the library's errors in our words."""
    try:
        yield
    except aiohttp.SocketTimeoutError as error:
        raise SilentChannelError(str(error)) from error
    except (aiohttp.ClientError, OSError) as error:
        raise BrokenChannelError(f"{type(error).__name__} {error}".rstrip()) from error


def _host_of(base: str, server_name: str) -> str:
    port = urlsplit(base).port
    return f"{server_name}:{port}" if port else server_name


def _find_proxy(base: str) -> str | None:
    # Not aiohttp's trust_env: a .netrc would take the place of the configured key.
    parts = urlsplit(base)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")

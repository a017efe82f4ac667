"""A way to a server over httpx2, which knows TLS, proxies and whatever else the way may need."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import httpx2

from mm_orch.remote.channel import BrokenChannelError, SilentChannelError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping

_NUM_KEPT = 64
_REST_S = 0.05


class LibraryChannel:
    """Connections to one server, kept open between requests; see PlainChannel."""

    def __init__(self, base: str, headers: Mapping[str, str], *, connect_s: float) -> None:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=_NUM_KEPT)
        self._client = httpx2.AsyncClient(headers=headers, limits=limits)
        self._base = base
        self._connect_s = connect_s

    async def ask(self, method: str, path: str, body: bytes, *, silence_s: float) -> LibraryReply:
        """Send a request and wait for the head of the reply; see Channel."""
        request = self._client.build_request(
            method,
            self._base + path,
            content=body,
            headers={"Content-Type": "application/json"} if body else None,
            timeout=httpx2.Timeout(silence_s, connect=self._connect_s),
        )
        with _translated():
            return LibraryReply(await self._client.send(request, stream=True))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()


class LibraryReply:
    """A reply; implements Reply."""

    def __init__(self, response: httpx2.Response) -> None:
        self.status = response.status_code
        self.retry_after = response.headers.get("retry-after", "")
        self._response = response
        self._pieces = response.aiter_bytes()
        self._is_finished = False

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Yield the body as it comes; see Reply."""
        with _translated():
            async for piece in self._pieces:
                yield piece

    def finish(self) -> None:
        """Want nothing more of the reply; see Reply."""
        self._is_finished = True

    async def aclose(self) -> None:
        """End the exchange; see Reply."""
        if self._is_finished:
            # A connection is used again only when nothing is left in it.
            with contextlib.suppress(TimeoutError, httpx2.TransportError):
                async with asyncio.timeout(_REST_S):
                    await _exhaust(self._pieces)
        await self._response.aclose()


async def _exhaust(pieces: AsyncIterator[bytes]) -> None:
    while await anext(pieces, None) is not None:
        continue


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Name the library's errors in our words."""
    try:
        yield
    except httpx2.ReadTimeout as error:
        raise SilentChannelError(str(error)) from error
    except httpx2.TransportError as error:
        raise BrokenChannelError(f"{type(error).__name__} {error}") from error

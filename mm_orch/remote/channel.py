"""What is needed of a way to another server: replies whose bytes come piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator


class BrokenChannelError(ConnectionError):
    """The server cannot be reached, or the connection broke off."""


class SilentChannelError(Exception):
    """The server said nothing for too long."""


class Reply(Protocol):
    """A reply whose head has come."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def retry_after(self) -> str:
        """That header; empty where there is none."""

    def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; to be called once.

        Raises:
            BrokenChannelError, SilentChannelError: it did not come to its end.
        """

    def finish(self) -> None:
        """Say that all of interest has come: the connection may be kept once the rest is there."""

    async def aclose(self) -> None:
        """End the exchange; unless it is finished or has come whole, this closes the connection."""


class Channel(Protocol):
    """Connections to one server."""

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

    async def aclose(self) -> None:
        """Close every connection."""


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

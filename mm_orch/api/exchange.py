"""Keeps an answer and its client together: who leaves or stalls ends the work for both."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from starlette.types import Message, Receive, Send


class ClientGoneError(ConnectionError):
    """The client has closed the connection, or takes nothing any more."""


async def while_client_stays(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Run the work; cancel it the moment the client is gone.

    Raises:
        ClientGoneError: the client left first.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_wait_for_disconnect(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGoneError("The client has left.")
        await working
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


def impatient(send: Send, timeout_s: float) -> Callable[[Message], Awaitable[None]]:
    """Wrap ``send`` so that a client that takes nothing for so long counts as gone."""

    async def send_or_give_up(message: Message) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await send(message)
        except TimeoutError:
            raise ClientGoneError(f"The client took nothing for {timeout_s:g} s.") from None
        except OSError as error:
            raise ClientGoneError(f"The client cannot be written to: {error}.") from error

    return send_or_give_up


async def _wait_for_disconnect(receive: Receive) -> None:
    # The body has been read, so what comes next is the end of the connection.
    while (await receive())["type"] != "http.disconnect":
        pass

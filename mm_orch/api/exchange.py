"""Keeps an answer and its client together: who leaves or stalls ends the work for both."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from starlette.types import Message, Receive, Send


class ClientGoneError(ConnectionError):
    """The client has closed the connection, or takes nothing any more."""


class ImpatientSend:
    """Sends, and notices a client that takes nothing for too long.

    One timer watches all that is sent: a bound on each message would cost as much as sending it.
    """

    def __init__(self, send: Send, timeout_s: float) -> None:
        self._send = send
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        # When the message that is being sent was begun; None while none is.
        self._begin_s: float | None = None

    async def __call__(self, message: Message) -> None:
        """Send a message.

        Raises:
            ClientGoneError: the connection cannot be written to.
        """
        self._begin_s = self._loop.time()
        try:
            await self._send(message)
        except OSError as error:
            raise ClientGoneError(f"The client cannot be written to: {error}.") from error
        finally:
            self._begin_s = None

    async def wait_for_stall(self) -> str:
        """Wait until a message has not been taken for too long; say so."""
        stalled_s = 0.0
        while stalled_s < self._timeout_s:
            await asyncio.sleep(self._timeout_s - stalled_s)
            stalled_s = 0.0 if self._begin_s is None else self._loop.time() - self._begin_s
        return f"The client took nothing for {self._timeout_s:g} s."


async def while_client_stays(
    work: Callable[[ImpatientSend], Coroutine[Any, Any, None]],
    receive: Receive,
    send: Send,
    *,
    timeout_s: float,
) -> None:
    """Run the work; cancel it the moment the client is gone.

    Args:
        work: is given what to send with.
        receive: of the exchange.
        send: of the exchange.
        timeout_s: a client that takes nothing for so long counts as gone.

    Raises:
        ClientGoneError: the client left first.
    """
    impatient = ImpatientSend(send, timeout_s)
    working = asyncio.ensure_future(work(impatient))
    leaving = asyncio.ensure_future(_wait_for_disconnect(receive))
    stalling = asyncio.ensure_future(impatient.wait_for_stall())
    tasks = (working, leaving, stalling)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGoneError(stalling.result() if stalling.done() else "The client has left.")
        await working
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _wait_for_disconnect(receive: Receive) -> None:
    # The body has been read, so what comes next is the end of the connection.
    while (await receive())["type"] != "http.disconnect":
        pass

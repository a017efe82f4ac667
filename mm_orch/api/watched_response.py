"""A response that is worked on only as long as its client stays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from starlette.responses import Response

from mm_orch.api.exchange import while_client_stays

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


class WatchedResponse(Response, ABC):
    """Does its work when it is sent; a client that leaves cancels it.

    Args:
        send_timeout_s: a client that takes nothing for so long counts as gone.
    """

    def __init__(self, send_timeout_s: float) -> None:
        super().__init__()
        self._send_timeout_s = send_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Work and send.

        Raises:
            MuAIError: nothing has been sent yet, so the answer can be one about this error.
            ClientGoneError: the client left or stalled; the work was cancelled.
        """
        await while_client_stays(
            lambda watched_send: self._answer(scope, watched_send),
            receive,
            send,
            timeout_s=self._send_timeout_s,
        )

    @abstractmethod
    async def _answer(self, scope: Scope, send: Send) -> None:
        """Do the work, and send what comes of it."""

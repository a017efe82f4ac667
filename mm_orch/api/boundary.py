"""Where what goes wrong in an exchange ends: a client may leave, a fault of ours is logged."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from mm_orch.api.errors import fault_envelope
from mm_orch.api.exchange import ClientGoneError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)


class Boundary:
    """Lets no exception out, so that every exchange ends with an answer or a client that left."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; answer a fault with 500 as long as nothing else was answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_started = False

        async def watch(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        request_id = scope["state"]["request_id"]
        try:
            await self._app(scope, receive, watch)
        except ClientGoneError as error:
            logger.debug("request %s: %s", request_id, error)
        except Exception:  # boundary: the server outlives every fault in one exchange
            logger.exception("request %s met a fault of the server", request_id)
            if not has_started:
                await JSONResponse(fault_envelope(request_id), 500)(scope, receive, send)

"""Refuses callers that are over their rate, and tells all of them what they have left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mm_orch.api.errors import error_response
from mm_orch.api.rag_query import DOCUMENTS_QUERY_PATH
from mm_orch.api.session_exchange import DOCUMENT_IMPORT_PATH, IMPORT_PATH
from mm_orch.api.uploads import UPLOAD_PATH
from mm_orch.core.errors import RateLimitError
from mm_orch.core.generation import ANONYMOUS
from mm_orch.orchestration.account import RequestAccount

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from mm_orch.api.rate_limits import Allowance
    from mm_orch.core.events import Observer

    Take = Callable[[str], Awaitable[Allowance | None]]

_OPERATION_BY_PATH: dict[str, str | None] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/responses": "chat",
    "/v1/embeddings": "embeddings",
    "/api/chat": "chat",
    "/api/query": "chat",
    DOCUMENTS_QUERY_PATH: "chat",
    UPLOAD_PATH: "embeddings",
    # Work for the server alone: none of the requests that are told of.
    IMPORT_PATH: None,
    DOCUMENT_IMPORT_PATH: None,
}


class RateLimited:
    """Counts the exchanges that mean work, by the key's name, else by the client's address.

    Args:
        app: inside of it.
        take: counts a request of a caller; None where it has no limit.
        observer: told of each request that is refused, as of every other that ends.
    """

    def __init__(self, app: ASGIApp, take: Take, observer: Observer) -> None:
        self._app = app
        self._take = take
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on with OpenAI's headers about the rate, or refuse."""
        if (
            scope["type"] != "http"
            or scope["method"] != "POST"
            or scope["path"] not in _OPERATION_BY_PATH
        ):
            await self._app(scope, receive, send)
            return
        state = scope["state"]
        address = (scope.get("client") or ("", 0))[0]
        allowance = await self._take(state.get("key_name", address))
        if allowance is None:
            await self._app(scope, receive, send)
            return
        headers = _headers_of(allowance)

        async def add_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *headers]
            await send(message)

        if allowance.retry_after_s is None:
            await self._app(scope, receive, add_headers)
            return
        error = RateLimitError(
            f"{allowance.limit} requests a minute are allowed (api.rate_limit_per_minute, or the"
            " key's own), and they were sent already.",
            retry_after_s=allowance.retry_after_s,
        )
        self._tell(error, scope)
        await error_response(error)(scope, receive, add_headers)

    def _tell(self, error: RateLimitError, scope: Scope) -> None:
        operation, state = _OPERATION_BY_PATH[scope["path"]], scope["state"]
        if operation is None:
            return
        with RequestAccount(
            state["request_id"],
            operation=operation,
            observer=self._observer,
            clock=time.monotonic,
            caller=state.get("key_name", ANONYMOUS),
        ) as account:
            account.fail(error)


def _headers_of(allowance: Allowance) -> list[tuple[bytes, bytes]]:
    return [
        (b"x-ratelimit-limit-requests", b"%d" % allowance.limit),
        (b"x-ratelimit-remaining-requests", b"%d" % allowance.remaining),
        (b"x-ratelimit-reset-requests", b"%.3fs" % allowance.reset_s),
    ]

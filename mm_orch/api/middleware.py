"""What surrounds every exchange: its id, its key, its size, and the fact that it ended.

Plain ASGI, each a few lines: Starlette's own base class for middleware hides disconnects.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
import uuid
from typing import TYPE_CHECKING

from starlette.routing import Match

from mm_orch.api.documentation import KEYED_PATHS
from mm_orch.api.errors import error_response
from mm_orch.core.errors import AuthenticationError, PayloadTooLargeError
from mm_orch.core.events import OTHER_METHOD, HttpRequestFinished

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from mm_orch.api.settings import ApiKey
    from mm_orch.core.events import Observer

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_UNMATCHED = "unmatched"
# nginx's number for a client that left before its answer began; never sent, only counted.
_CLIENT_LEFT = 499
_MAX_PATH_CHARS = 256
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class ObservedExchange:
    """States each exchange's end, with the path's template: raw paths would be endless labels."""

    def __init__(self, app: ASGIApp, observer: Observer) -> None:
        self._app = app
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and state the end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        begin_s = time.monotonic()
        status = _CLIENT_LEFT

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            # Those inside have put there what they know of the exchange.
            state = scope["state"]
            self._observer.observe(
                HttpRequestFinished(
                    route=_template_of(scope),
                    method=scope["method"] if scope["method"] in _METHODS else OTHER_METHOD,
                    status=status,
                    duration_s=time.monotonic() - begin_s,
                    begin_s=begin_s,
                    trace=state.get("trace"),
                    parent_span_id=state.get("parent_span_id", 0),
                    request_id=state.get("request_id", ""),
                    path=scope["path"][:_MAX_PATH_CHARS],
                    scheme=scope.get("scheme", "http"),
                    error_type=state.get("stream_error_type", ""),
                )
            )


class IdentifiedRequest:
    """Gives each exchange an id: the client's own where it is usable, else a new one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with the id in the scope's state and in the answer's headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = _find_header(scope, b"x-request-id")
        is_usable = given is not None and _REQUEST_ID.fullmatch(given)
        request_id = given.decode() if given and is_usable else f"req-{uuid.uuid4().hex}"
        scope["state"]["request_id"] = request_id

        async def add_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        await self._app(scope, receive, add_header)


class BoundedBody:
    """Refuses bodies over the limit: by their announced length, or as soon as they exceed it.

    Args:
        app: inside of it.
        max_bytes: of a body.
        max_bytes_by_path: of paths with a bound of their own.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_bytes_by_path: Mapping[str, int]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_bytes_by_path = max_bytes_by_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, counting what is received."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_bytes = self._max_bytes_by_path.get(scope["path"], self._max_bytes)
        length = _find_header(scope, b"content-length")
        if length is not None and length.isdigit() and int(length) > max_bytes:
            await error_response(_too_large(max_bytes))(scope, receive, send)
            return
        num_received = 0

        async def count() -> Message:
            nonlocal num_received
            message = await receive()
            num_received += len(message.get("body", b""))
            if num_received > max_bytes:
                raise _too_large(max_bytes)
            return message

        await self._app(scope, count, send)


class Authenticated:
    """Asks for a key on the paths that answer with models or the system's inner state."""

    def __init__(self, app: ASGIApp, keys: Sequence[ApiKey]) -> None:
        self._app = app
        self._keys = [(key, _digest(key.key.encode())) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on with the key's name in the scope's state, or refuse."""
        if scope["type"] != "http" or not scope["path"].startswith(KEYED_PATHS):
            await self._app(scope, receive, send)
            return
        given = _find_key(scope)
        key = self._find(given)
        if key is None:
            problem = "An API key is needed." if given is None else "This API key is not known."
            error = AuthenticationError(
                problem, remedy="Send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'."
            )
            await error_response(error)(scope, receive, send)
            return
        scope["state"]["key_name"] = key.name
        scope["state"]["owner"] = key.owner
        scope["state"]["is_admin"] = key.is_admin
        scope["state"]["priority_max"] = key.priority_max
        await self._app(scope, receive, send)

    def _find(self, sent: bytes | None) -> ApiKey | None:
        given = _digest(sent or b"")
        found = None
        # All are compared, so that the time tells nothing of which one fits.
        for key, digest in self._keys:
            if hmac.compare_digest(given, digest):
                found = key
        return found


def _too_large(max_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"The body is larger than {max_bytes} bytes, the most that this path takes"
        " (api.max_request_bytes)."
    )


def _template_of(scope: Scope) -> str:
    # What was refused on its way has not come to its route.
    route = scope.get("route") or _find_route(scope)
    template = getattr(route, "path", _UNMATCHED)
    # How a parameter is matched is no part of its name.
    return str(template).replace(":path}", "}")


def _find_route(scope: Scope) -> BaseRoute | None:
    """Return the route that would answer, else the first that has the path without the method."""
    routes: Sequence[BaseRoute] = scope["app"].routes
    found = [(route.matches(scope)[0], route) for route in routes]
    for wanted in (Match.FULL, Match.PARTIAL):
        for match, route in found:
            if match is wanted:
                return route
    return None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _find_key(scope: Scope) -> bytes | None:
    authorization = _find_header(scope, b"authorization") or b""
    kind, _, key = authorization.partition(b" ")
    if kind.lower() == b"bearer" and key.strip():
        return key.strip()
    return _find_header(scope, b"x-api-key")


def _find_header(scope: Scope, name: bytes) -> bytes | None:
    for given, value in scope["headers"]:
        if given == name:
            return bytes(value)
    return None

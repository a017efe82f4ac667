"""Gives each exchange its place in a trace, as the W3C's trace context says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.trace import CURRENT, parse_trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from mm_orch.core.trace import TraceContext

    StartTrace = Callable[[TraceContext | None], TraceContext]

# Probes, scrapers and pages ask these again and again: they join a trace, but begin none.
_READING = {"GET", "HEAD", "OPTIONS"}
# The recommendation asks to pass on so much; more may be dropped.
_MAX_STATE_CHARS = 512


class Traced:
    """Takes ``traceparent`` from the request, keeps it for the work, and answers with its own.

    Args:
        app: what is surrounded.
        start_trace: gives the place of a new span below its caller's, or in a trace of its own;
            None with tracing off: a caller's trace is passed on as it is.
    """

    def __init__(self, app: ASGIApp, start_trace: StartTrace | None = None) -> None:
        self._app = app
        self._start_trace = start_trace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on within the trace."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caller = _find_caller(scope)
        trace = self._place(scope, caller)
        # Also where there is none: a server may begin this task in an older exchange's context.
        token = CURRENT.set(trace)
        try:
            if trace is None:
                await self._app(scope, receive, send)
                return
            scope["state"]["trace"] = trace
            scope["state"]["parent_span_id"] = 0 if caller is None else caller.span_id
            header = (b"traceparent", trace.traceparent.encode())

            async def add_header(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message.get("headers", []), header]
                await send(message)

            await self._app(scope, receive, add_header)
        finally:
            CURRENT.reset(token)

    def _place(self, scope: Scope, caller: TraceContext | None) -> TraceContext | None:
        if self._start_trace is None or (caller is None and scope["method"] in _READING):
            return caller
        return self._start_trace(caller)


def _find_caller(scope: Scope) -> TraceContext | None:
    given = [value for name, value in scope["headers"] if name == b"traceparent"]
    if len(given) != 1:
        return None
    states = [value for name, value in scope["headers"] if name == b"tracestate"]
    return parse_trace(given[0].decode("latin-1"), _join(states))


def _join(states: list[bytes]) -> str:
    state = b",".join(states).decode("latin-1")
    is_fit = len(state) <= _MAX_STATE_CHARS and state.isascii() and state.isprintable()
    return state if is_fit else ""

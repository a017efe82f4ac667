"""Where a request stands in a distributed trace: W3C trace context, read and written.

Source: W3C Recommendation "Trace Context", version 00.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass

_TRACEPARENT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)
_SAMPLED = 1
_VERSION_00 = "00"
_INVALID_VERSION = "ff"


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One span's identity: 128 bits of trace, 64 bits of span, and whether it is recorded.

    Attributes:
        state: the header ``tracestate`` of the caller, passed on as it is.
    """

    trace_id: int
    span_id: int
    is_sampled: bool
    state: str = ""

    @property
    def trace_hex(self) -> str:
        """The trace id as 32 hexadecimal digits."""
        return f"{self.trace_id:032x}"

    @property
    def span_hex(self) -> str:
        """The span id as 16 hexadecimal digits."""
        return f"{self.span_id:016x}"

    @property
    def traceparent(self) -> str:
        """The header that names this span as the parent."""
        return f"00-{self.trace_hex}-{self.span_hex}-{int(self.is_sampled):02x}"


CURRENT: ContextVar[TraceContext | None] = ContextVar("trace", default=None)
"""The span in which this task works."""


def parse_trace(traceparent: str, state: str = "") -> TraceContext | None:
    """Read the headers ``traceparent`` and ``tracestate``; None for what is not valid.

    A version from the future is read as version 00, as the recommendation asks.
    """
    match = _TRACEPARENT.fullmatch(traceparent.strip())
    if match is None or match["version"] == _INVALID_VERSION:
        return None
    if match["version"] == _VERSION_00 and match["rest"]:
        return None
    trace_id, span_id = int(match["trace"], 16), int(match["span"], 16)
    if not trace_id or not span_id:
        return None
    is_sampled = bool(int(match["flags"], 16) & _SAMPLED)
    return TraceContext(trace_id, span_id, is_sampled, state)

"""Draws the ids of traces and spans, and decides which traces are recorded."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from mm_orch.core.trace import TraceContext

if TYPE_CHECKING:
    from collections.abc import Callable

_TRACE_BITS = 128
_SPAN_BITS = 64
_LOW_BITS = 2**64 - 1


class Sampler:
    """Records a share of the traces that begin here; the others follow their caller.

    Args:
        rate: the share, 0 to 1.
        randomness: where ids come from.
    """

    def __init__(self, rate: float, randomness: random.Random | None = None) -> None:
        self._bound = round(rate * (_LOW_BITS + 1))
        # Seeded by the system once: to ask it for each id would cost ten times as much.
        seed = random.SystemRandom().getrandbits(_TRACE_BITS)
        self._draw = (randomness or random.Random(seed)).getrandbits  # noqa: S311 - no secrets

    def start(self, parent: TraceContext | None) -> TraceContext:
        """Return the place of a new span: in its caller's trace, or in a trace of its own."""
        span_id = self.draw_span_id()
        if parent is not None:
            return TraceContext(parent.trace_id, span_id, parent.is_sampled, parent.state)
        trace_id = _draw_non_zero(self._draw, _TRACE_BITS)
        # The rule of OpenTelemetry's TraceIdRatioBased: every service decides alike.
        return TraceContext(trace_id, span_id, (trace_id & _LOW_BITS) < self._bound)

    def draw_span_id(self) -> int:
        """Return 64 random bits that are not all zero."""
        return _draw_non_zero(self._draw, _SPAN_BITS)


def _draw_non_zero(draw: Callable[[int], int], num_bits: int) -> int:
    while not (drawn := draw(num_bits)):
        pass
    return drawn

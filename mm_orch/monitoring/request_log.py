"""Writes one structured log line for each request that has ended."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mm_orch.core.events import RequestFinished, RequestStatus

if TYPE_CHECKING:
    from mm_orch.core.events import Event

logger = logging.getLogger(__name__)

_DIGITS = 4


class RequestLogObserver:
    """An observer that knows of ends alone; nothing of a prompt or an answer is in its lines."""

    def observe(self, event: Event) -> None:
        """Take one fact."""
        if not isinstance(event, RequestFinished):
            return
        level = logging.WARNING if event.status is RequestStatus.ERROR else logging.INFO
        logger.log(level, "request finished", extra=_fields(event))


def _fields(event: RequestFinished) -> dict[str, object]:
    trace = event.trace
    place = {} if trace is None else {"trace_id": trace.trace_hex, "span_id": trace.span_hex}
    return place | {
        "request_id": event.request_id,
        "model": event.model,
        "engine": event.engine,
        "status": event.status.value,
        "prompt_tokens": event.num_prompt_tokens,
        "generated_tokens": event.num_generated_tokens,
        "cached_tokens": event.num_cached_tokens,
        "queue_wait_s": _rounded(event.queue_wait_s),
        "ttft_s": _rounded(event.ttft_s),
        "total_s": _rounded(event.total_s),
        "finish_reasons": ",".join(event.finish_reasons),
        "error_type": event.error_type,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, _DIGITS)

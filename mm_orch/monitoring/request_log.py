"""Writes one structured log line for each request, and each run of a workflow, that has ended."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mm_orch.core.events import RequestFinished, RequestStatus
from mm_orch.core.workflow_events import WorkflowFinished

if TYPE_CHECKING:
    from mm_orch.core.events import Event

logger = logging.getLogger(__name__)

_DIGITS = 4


class RequestLogObserver:
    """An observer that knows of ends alone; nothing of a prompt or an answer is in its lines."""

    def observe(self, event: Event) -> None:
        """Take one fact."""
        match event:
            case RequestFinished():
                level = logging.WARNING if event.status is RequestStatus.ERROR else logging.INFO
                logger.log(level, "request finished", extra=_fields(event))
            case WorkflowFinished():
                is_wrong = event.is_partial or event.status == RequestStatus.ERROR.value
                level = logging.WARNING if is_wrong else logging.INFO
                logger.log(level, "workflow finished", extra=_fields_of_run(event))
            case _:
                pass


def _fields_of_run(event: WorkflowFinished) -> dict[str, object]:
    return {
        "request_id": event.request_id,
        "workflow": event.workflow,
        "caller": event.caller,
        "status": event.status,
        "is_partial": event.is_partial,
        "prompt_tokens": event.num_prompt_tokens,
        "generated_tokens": event.num_generated_tokens,
        "cached_tokens": event.num_cached_tokens,
        "ttft_s": _rounded(event.ttft_s),
        "total_s": _rounded(event.total_s),
        "error_type": event.error_type,
    }


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

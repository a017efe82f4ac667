"""Requests and exchanges in a trace, with times that a reader can add up."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.resources import Resource

from mm_orch.core.events import (
    Attempt,
    ErrorReport,
    HttpRequestFinished,
    RequestFinished,
    RequestStatus,
)
from mm_orch.core.trace import TraceContext
from mm_orch.monitoring.tracing.spans import SpanMaker

TRACE = TraceContext(0xA1, 0xB2, is_sampled=True, state="vendor=1")
EPOCH_NS = 1_700_000_000_000_000_000
FIRST = Attempt(
    engine="vllm",
    submitted_s=10.2,
    started_s=10.5,
    first_token_s=11.0,
    ended_s=11.5,
    num_tokens=4,
    num_cached_tokens=3,
    max_batch_size=5,
    error="it was killed",
)
SECOND = Attempt(
    engine="pytorch",
    submitted_s=11.6,
    started_s=11.7,
    first_token_s=12.0,
    ended_s=13.0,
    num_tokens=6,
    max_batch_size=2,
)
BROKEN = ErrorReport(error_type="EngineFailedError", message="no memory", stack="Traceback ...")


def ns_of(reading_s: float) -> int:
    return EPOCH_NS + round(reading_s * 1e9)


def finished(status: RequestStatus = RequestStatus.SUCCESS, **more: Any) -> RequestFinished:
    facts: dict[str, Any] = {
        "request_id": "r1",
        "model": "small",
        "engine": "pytorch",
        "status": status,
        "begin_s": 10.0,
        "routed_s": 10.1,
        "queue_wait_s": 0.5,
        "ttft_s": 1.0,
        "total_s": 3.25,
        "num_prompt_tokens": 7,
        "num_generated_tokens": 10,
        "num_cached_tokens": 3,
        "num_waiting_before": 4,
        "num_running_before": 2,
        "finish_reasons": ("stop",),
        "attempts": (FIRST, SECOND),
        "trace": TRACE,
    }
    return RequestFinished(**(facts | more))


def exchanged(status: int = 200, **more: Any) -> HttpRequestFinished:
    facts: dict[str, Any] = {
        "route": "/v1/chat/completions",
        "method": "POST",
        "status": status,
        "begin_s": 9.75,
        "duration_s": 3.75,
        "trace": TRACE,
        "parent_span_id": 0xC3,
        "request_id": "r1",
        "path": "/v1/chat/completions",
        "scheme": "https",
    }
    return HttpRequestFinished(**(facts | more))


def make_maker() -> SpanMaker:
    ids = iter(range(1, 1000))
    return SpanMaker(
        Resource({"service.name": "test"}), draw_span_id=lambda: next(ids), ns_of=ns_of
    )

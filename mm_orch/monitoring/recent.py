"""Keeps the last requests that ended, with what is needed to see why one was slow."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from mm_orch.core.events import RequestFinished
from mm_orch.core.observations import RequestReport, RequestsReport

if TYPE_CHECKING:
    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Attempt, Event

MAX_REQUESTS = 500
_MICROSECONDS = 6


class RecentRequests:
    """An observer; what it keeps is bounded, and holds nothing of prompts and answers.

    Args:
        now: the wall clock, as seconds since 1970.
    """

    def __init__(self, now: Clock) -> None:
        self._now = now
        # With the time of each end.
        self._ended: deque[tuple[float, RequestFinished]] = deque(maxlen=MAX_REQUESTS)

    def observe(self, event: Event) -> None:
        """Take one fact."""
        if isinstance(event, RequestFinished):
            self._ended.append((self._now(), replace(event, prompt=None, answers=())))

    def newest(self, limit: int) -> RequestsReport:
        """Return at most so many, the newest first."""
        newest = islice(reversed(self._ended), limit)
        return RequestsReport(requests=tuple(_report(event, ended_s) for ended_s, event in newest))


def _report(event: RequestFinished, ended_s: float) -> RequestReport:
    trace = event.trace
    began = datetime.fromtimestamp(ended_s - event.total_s, UTC)
    return RequestReport(
        request_id=event.request_id,
        trace_id=trace.trace_hex if trace is not None and trace.is_sampled else None,
        at=began.isoformat(timespec="milliseconds"),
        model=event.model,
        engine=event.engine,
        operation=event.operation,
        status=event.status.value,
        error_type=event.error_type,
        error_message=event.error.message if event.error else None,
        num_prompt_tokens=event.num_prompt_tokens,
        num_cached_tokens=event.num_cached_tokens,
        num_generated_tokens=event.num_generated_tokens,
        finish_reasons=event.finish_reasons,
        queue_wait_s=event.queue_wait_s,
        ttft_s=event.ttft_s,
        total_s=event.total_s,
        routed_s=_after(event.begin_s, event.routed_s),
        gate_wait_s=round(event.gate_wait_s, _MICROSECONDS),
        num_waiting_before=event.num_waiting_before,
        num_running_before=event.num_running_before,
        attempts=tuple(_shift(one, event.begin_s) for one in event.attempts),
    )


def _shift(attempt: Attempt, begin_s: float) -> Attempt:
    return replace(
        attempt,
        submitted_s=round(attempt.submitted_s - begin_s, _MICROSECONDS),
        started_s=_after(begin_s, attempt.started_s),
        first_token_s=_after(begin_s, attempt.first_token_s),
        ended_s=round(attempt.ended_s - begin_s, _MICROSECONDS),
    )


def _after(begin_s: float, at_s: float | None) -> float | None:
    return None if at_s is None else round(at_s - begin_s, _MICROSECONDS)

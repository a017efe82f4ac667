"""Takes the path's events in and gives a reading of each window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.events import (
    CacheUsed,
    FirstTokenProduced,
    LoadChanged,
    RequestFinished,
    RequestStatus,
    ResourcesRead,
    StepCompleted,
    TokenGap,
)
from mm_orch.core.figures import UNKNOWN
from mm_orch.monitoring.log_histogram import LogHistogram
from mm_orch.monitoring.request_window import ratio
from mm_orch.tuning.readings import Reading
from mm_orch.tuning.step_fit import StepFit

if TYPE_CHECKING:
    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Event

_DECODE = "decode"
_MIN_SPAN_S = 1e-3


class WindowReader:
    """An observer of one window after another, over all models.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._load_by_model: dict[str, tuple[int, int]] = {}
        self._load_since_s = clock()
        self._kv_use_by_model: dict[str, float] = {}
        self._memory_use_ratio: float | None = None
        self._num_present = 0
        self._begin()

    def observe(self, event: Event) -> None:
        """Take one fact."""
        match event:
            case TokenGap():
                self._num_tokens += event.num_tokens
            case StepCompleted():
                self._count_step(event)
            case LoadChanged():
                self._count_load()
                self._load_by_model[event.model] = event.num_running, event.num_waiting
            case FirstTokenProduced():
                self._num_tokens += 1
                self._ttft.add(event.ttft_s)
            case RequestFinished():
                self._count_end(event)
            case CacheUsed():
                self._kv_use_by_model[event.model] = event.use_ratio
            case ResourcesRead():
                self._memory_use_ratio = ratio(event.memory_used_bytes, event.memory_total_bytes)
            case _:
                pass

    def read(self) -> Reading:
        """Return what the window that ends now says; the next one begins."""
        self._count_load()
        span_s = max(_MIN_SPAN_S, self._clock() - self._begin_s)
        num_present = sum(sum(load) for load in self._load_by_model.values())
        num_by_status = self._num_by_status
        num_ended = sum(num_by_status.values())
        num_steps = sum(self._num_steps.values())
        reading = Reading(
            span_s=span_s,
            num_arrived=max(0, num_ended + num_present - self._num_present),
            num_succeeded=num_by_status[RequestStatus.SUCCESS],
            num_failed=num_by_status[RequestStatus.ERROR] + num_by_status[RequestStatus.TIMEOUT],
            num_rejected=num_by_status[RequestStatus.REJECTED],
            tokens_per_s=self._num_tokens / span_s,
            latency_p50_s=self._latency.quantile(0.5),
            latency_p95_s=self._latency.quantile(0.95),
            ttft_p95_s=self._ttft.quantile(0.95),
            queue_wait_p95_s=self._wait.quantile(0.95),
            service_p95_s=self._service.quantile(0.95),
            num_waiting=self._waiting_s / span_s,
            num_running=self._running_s / span_s,
            batch_size_mean=ratio(self._num_batched, num_steps),
            busy_ratio=min(1.0, max(self._busy_s.values(), default=0.0) / span_s),
            step_s=ratio(sum(self._busy_s.values()), num_steps),
            step_costs=self._fit.find(),
            cache_hit_ratio=ratio(self._num_cached_tokens, self._num_prompt_tokens),
            kv_use_ratio=max(self._kv_use_by_model.values(), default=None),
            memory_use_ratio=self._memory_use_ratio,
        )
        self._num_present = num_present
        self._begin()
        return reading

    def _begin(self) -> None:
        self._begin_s = self._clock()
        self._num_tokens = 0
        self._num_batched = 0
        self._num_prompt_tokens = 0
        self._num_cached_tokens = 0
        self._waiting_s = 0.0
        self._running_s = 0.0
        self._num_by_status = dict.fromkeys(RequestStatus, 0)
        self._num_steps: dict[str, int] = {}
        self._busy_s: dict[str, float] = {}
        self._latency = LogHistogram()
        self._ttft = LogHistogram()
        self._wait = LogHistogram()
        self._service = LogHistogram()
        self._fit = StepFit()

    def _count_step(self, event: StepCompleted) -> None:
        # A model's replicas and stand-ins take turns at the same cores.
        model = event.model
        self._num_steps[model] = self._num_steps.get(model, 0) + 1
        self._busy_s[model] = self._busy_s.get(model, 0.0) + event.duration_s
        self._num_batched += event.batch_size
        if event.phase == _DECODE:
            self._fit.add(event.batch_size, event.duration_s)

    def _count_load(self) -> None:
        """Count what was there since the last change."""
        now_s = self._clock()
        spent_s, self._load_since_s = now_s - self._load_since_s, now_s
        for num_running, num_waiting in self._load_by_model.values():
            self._running_s += num_running * spent_s
            self._waiting_s += num_waiting * spent_s

    def _count_end(self, event: RequestFinished) -> None:
        self._num_by_status[event.status] += 1
        if event.engine == UNKNOWN:
            return
        self._num_prompt_tokens += event.num_prompt_tokens
        self._num_cached_tokens += event.num_cached_tokens
        if event.status is not RequestStatus.SUCCESS:
            return
        wait_s = event.queue_wait_s or 0.0
        self._latency.add(event.total_s)
        self._wait.add(wait_s)
        self._service.add(event.total_s - wait_s)

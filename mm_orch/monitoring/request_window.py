"""How the requests of one kind went in the last minutes: distributions, rates, shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

from mm_orch.core.events import RequestStatus
from mm_orch.core.figures import RequestFigures
from mm_orch.monitoring.log_histogram import LogHistogram
from mm_orch.monitoring.window import SlidingWindow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mm_orch.core.clock import Clock
    from mm_orch.core.events import RequestFinished
    from mm_orch.core.figures import Distribution
    from mm_orch.core.workflow_events import WorkflowFinished


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How requests ended; the latency is of those that succeeded."""

    num_succeeded: int
    num_failed: int
    latency: Distribution | None


class RequestSlot:
    """What one slot remembers of requests."""

    __slots__ = (
        "latency",
        "num_by_status",
        "num_cached_tokens",
        "num_generated_tokens",
        "num_prompt_tokens",
        "queue_wait",
        "ttft",
    )

    def __init__(self) -> None:
        self.latency = LogHistogram()
        self.ttft = LogHistogram()
        self.queue_wait = LogHistogram()
        self.num_by_status = dict.fromkeys(RequestStatus, 0)
        self.num_prompt_tokens = 0
        self.num_generated_tokens = 0
        self.num_cached_tokens = 0

    def count_end(self, event: RequestFinished | WorkflowFinished, *, has_engine: bool) -> None:
        """Count a request that has ended; one without an engine tells no time and no tokens."""
        status = RequestStatus(event.status)
        self.num_by_status[status] += 1
        if status is RequestStatus.SUCCESS:
            # One that was cut short would make the model look as fast as it was cut.
            self.latency.add(event.total_s)
        if has_engine:
            self.num_prompt_tokens += event.num_prompt_tokens
            self.num_generated_tokens += event.num_generated_tokens
            self.num_cached_tokens += event.num_cached_tokens

    @property
    def num_succeeded(self) -> int:
        """Requests that ended well."""
        return self.num_by_status[RequestStatus.SUCCESS]

    @property
    def num_failed(self) -> int:
        """Requests that ended by an error or by a timeout."""
        num = self.num_by_status
        return num[RequestStatus.ERROR] + num[RequestStatus.TIMEOUT]

    def merge(self, other: Self) -> None:
        """Count all that the other one has counted."""
        self.latency.merge(other.latency)
        self.ttft.merge(other.ttft)
        self.queue_wait.merge(other.queue_wait)
        for status, count in other.num_by_status.items():
            self.num_by_status[status] += count
        self.num_prompt_tokens += other.num_prompt_tokens
        self.num_generated_tokens += other.num_generated_tokens
        self.num_cached_tokens += other.num_cached_tokens

    def describe(self, span_s: float) -> RequestFigures:
        """Return the figures of so many seconds."""
        num = self.num_by_status
        num_succeeded, num_failed = self.num_succeeded, self.num_failed
        return RequestFigures(
            latency=self.latency.describe(),
            time_to_first_token=self.ttft.describe(),
            queue_wait=self.queue_wait.describe(),
            num_requests=sum(num.values()),
            num_failed=num_failed,
            num_rejected=num[RequestStatus.REJECTED],
            num_cancelled=num[RequestStatus.CANCELLED],
            num_prompt_tokens=self.num_prompt_tokens,
            num_generated_tokens=self.num_generated_tokens,
            num_cached_tokens=self.num_cached_tokens,
            error_rate=ratio(num_failed, num_succeeded + num_failed) or 0.0,
            throughput_requests_per_second=num_succeeded / span_s,
            throughput_tokens_per_second=self.num_generated_tokens / span_s,
            cache_hit_ratio=ratio(self.num_cached_tokens, self.num_prompt_tokens),
        )


class EngineSlot(RequestSlot):
    """What one slot remembers of a model on an engine: requests, and what its workers did."""

    __slots__ = ("inter_token", "num_batched", "num_streamed_tokens", "step_duration")

    def __init__(self) -> None:
        super().__init__()
        self.inter_token = LogHistogram()
        self.step_duration = LogHistogram()
        self.num_batched = 0
        self.num_streamed_tokens = 0

    def merge(self, other: Self) -> None:
        """Count all that the other one has counted."""
        super().merge(other)
        self.inter_token.merge(other.inter_token)
        self.step_duration.merge(other.step_duration)
        self.num_batched += other.num_batched
        self.num_streamed_tokens += other.num_streamed_tokens

    @property
    def batch_size_mean(self) -> float | None:
        """Sequences in a step, or None before any."""
        return ratio(self.num_batched, self.step_duration.count)


class _Mergeable(Protocol):
    def merge(self, other: Self) -> None: ...


Merged = TypeVar("Merged", bound=_Mergeable)


class MergingWindow(SlidingWindow[Merged], Generic[Merged]):
    """A sliding window whose slots can be put together."""

    def __init__(
        self, make_slot: Callable[[], Merged], *, clock: Clock, window_s: float, begin_s: float
    ) -> None:
        super().__init__(make_slot, clock=clock, window_s=window_s, begin_s=begin_s)

    def merged(self) -> Merged:
        """Return one slot with all that the window holds."""
        whole = self._make_slot()
        for slot in self.slots():
            whole.merge(slot)
        return whole


def outcome_of(slots: Iterable[RequestSlot]) -> Outcome:
    """Return how the requests of these slots ended, for a small part of the work of all figures."""
    latency = LogHistogram()
    num_succeeded = num_failed = 0
    for slot in slots:
        latency.merge(slot.latency)
        num_succeeded += slot.num_succeeded
        num_failed += slot.num_failed
    return Outcome(num_succeeded=num_succeeded, num_failed=num_failed, latency=latency.describe())


def ratio(part: float, whole: float) -> float | None:
    """Return the part of the whole, or None where there is no whole."""
    return part / whole if whole else None

"""A batching engine in simulated time, one event a step: for tests of the tuner, and grid searches.

A step takes ``fixed + per_sequence * decoding + per_prompt_token * prompt tokens``, with noise; the
constants are those that ``benchmarks.step_times`` fits to the real engine. Requests come at
random (Poisson), wait in a bounded queue, join the batch as places, prompt budget and memory allow,
and find part of their prompt in the cache, as far as memory is to spare.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.tuning.knobs import (
    BATCH_SIZE,
    BATCH_TIMEOUT,
    BATCH_TOKENS,
    CACHE_SIZE,
    QUEUE_CAPACITY,
)
from mm_orch.tuning.readings import Reading
from mm_orch.tuning.step_fit import StepFit

if TYPE_CHECKING:
    from mm_orch.tuning.knobs import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConstants:
    """What the engine costs; times in seconds."""

    fixed_s: float
    per_sequence_s: float
    per_prompt_token_s: float
    noise_ratio: float = 0.05
    kv_bytes_per_token: int = 46_080


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is asked; lengths are spread evenly by a third to both sides.

    Attributes:
        shared_ratio: share of a prompt that others begin with too.
        shared_tokens: memory that all these beginnings take, in tokens.
    """

    prompt_tokens: int = 120
    output_tokens: int = 48
    shared_ratio: float = 0.3
    shared_tokens: int = 4_000


@dataclass(slots=True)
class _Request:
    arrived_s: float
    num_prompt_tokens: int
    num_output_tokens: int
    num_to_compute: int = 0
    started_s: float = 0.0
    first_token_s: float = 0.0


@dataclass(slots=True)
class _Window:
    num_arrived: int = 0
    num_rejected: int = 0
    num_tokens: int = 0
    num_steps: int = 0
    num_batched: int = 0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    busy_s: float = 0.0
    waiting_s: float = 0.0
    running_s: float = 0.0
    ended: list[tuple[float, float, float, float]] = field(default_factory=list)
    fit: StepFit = field(default_factory=StepFit)


class BatchingSimulator:
    """One engine with its queue.

    Args:
        setting: the options by key; may be replaced between windows.
        min_batch_size: what the idle engine waits for.
        seed: of all that is random.
    """

    def __init__(
        self,
        constants: EngineConstants,
        workload: Workload,
        setting: Setting,
        *,
        min_batch_size: int = 1,
        seed: int = 0,
    ) -> None:
        self.setting = dict(setting)
        self.min_batch_size = min_batch_size
        self._constants = constants
        self._workload = workload
        self._dice = random.Random(seed)  # noqa: S311 - a simulation, reproducible on purpose
        self._now_s = 0.0
        self._next_arrival_s = math.inf
        self._num_decoded = 0
        self._order = 0
        self._waiting: deque[_Request] = deque()
        self._prompts: deque[_Request] = deque()
        # By the step in which each ends.
        self._decoding: list[tuple[int, int, _Request]] = []
        self._held_tokens = 0

    def run(self, span_s: float, rate: float) -> Reading:
        """Advance by so many seconds at so many arrivals a second; return what was seen."""
        window, begin_s = _Window(), self._now_s
        end_s = begin_s + span_s
        self._next_arrival_s = begin_s + self._draw_gap(rate)
        while self._now_s < end_s:
            self._arrive(window, rate)
            wake_s = self._find_wake()
            if wake_s > self._now_s:
                idle_s = min(wake_s, end_s) - self._now_s
                window.waiting_s += len(self._waiting) * idle_s
                self._now_s += idle_s
                continue
            self._step(window)
        return self._describe(window, self._now_s - begin_s)

    def _draw_gap(self, rate: float) -> float:
        return self._dice.expovariate(rate) if rate > 0 else math.inf

    def _draw_length(self, mean: int) -> int:
        return max(1, round(mean * self._dice.uniform(2 / 3, 4 / 3)))

    def _arrive(self, window: _Window, rate: float) -> None:
        while self._next_arrival_s <= self._now_s:
            window.num_arrived += 1
            if len(self._waiting) >= self.setting[QUEUE_CAPACITY]:
                window.num_rejected += 1
            else:
                self._waiting.append(
                    _Request(
                        self._next_arrival_s,
                        self._draw_length(self._workload.prompt_tokens),
                        self._draw_length(self._workload.output_tokens),
                    )
                )
            self._next_arrival_s += self._draw_gap(rate)

    def _find_wake(self) -> float:
        if self._prompts or self._decoding:
            return self._now_s
        if not self._waiting:
            return self._next_arrival_s
        if len(self._waiting) >= self.min_batch_size:
            return self._now_s
        due_s = self._waiting[0].arrived_s + self.setting[BATCH_TIMEOUT] / 1000
        return min(due_s, self._next_arrival_s)

    def _step(self, window: _Window) -> None:
        self._admit(window)
        constants = self._constants
        budget, num_prompt_tokens = self.setting[BATCH_TOKENS], 0
        finished: list[_Request] = []
        while self._prompts and num_prompt_tokens < budget:
            request = self._prompts[0]
            count = min(request.num_to_compute, budget - num_prompt_tokens)
            request.num_to_compute -= count
            num_prompt_tokens += count
            if request.num_to_compute == 0:
                finished.append(self._prompts.popleft())
        num_decoding = len(self._decoding)
        duration_s = constants.fixed_s + constants.per_sequence_s * num_decoding
        duration_s += constants.per_prompt_token_s * num_prompt_tokens
        duration_s *= max(0.2, self._dice.gauss(1.0, constants.noise_ratio))
        self._count(window, duration_s, num_prompt_tokens, len(finished))
        self._now_s += duration_s
        self._num_decoded += 1
        self._end(window)
        for request in finished:
            request.first_token_s = self._now_s
            self._order += 1
            ends_at = self._num_decoded + request.num_output_tokens - 1
            heapq.heappush(self._decoding, (ends_at, self._order, request))
        self._end(window)

    def _admit(self, window: _Window) -> None:
        capacity = (self.setting[CACHE_SIZE] << 20) // self._constants.kv_bytes_per_token
        while self._waiting:
            num_running = len(self._prompts) + len(self._decoding)
            request = self._waiting[0]
            num_tokens = request.num_prompt_tokens + request.num_output_tokens
            has_memory = self._held_tokens + num_tokens <= capacity or not num_running
            if num_running >= self.setting[BATCH_SIZE] or not has_memory:
                return
            self._waiting.popleft()
            spare = max(0, capacity - self._held_tokens - num_tokens)
            reused = min(1.0, spare / self._workload.shared_tokens) * self._workload.shared_ratio
            num_cached = int(request.num_prompt_tokens * reused)
            window.num_prompt_tokens += request.num_prompt_tokens
            window.num_cached_tokens += num_cached
            request.num_to_compute = request.num_prompt_tokens - num_cached
            request.started_s = self._now_s
            self._held_tokens += num_tokens
            self._prompts.append(request)

    def _count(
        self, window: _Window, duration_s: float, num_prompt_tokens: int, num_first: int
    ) -> None:
        num_decoding = len(self._decoding)
        num_running = num_decoding + len(self._prompts) + num_first
        window.num_steps += 1
        window.num_batched += num_running
        window.num_tokens += num_decoding + num_first
        window.busy_s += duration_s
        window.waiting_s += len(self._waiting) * duration_s
        window.running_s += num_running * duration_s
        if not num_prompt_tokens:
            window.fit.add(num_decoding, duration_s)

    def _end(self, window: _Window) -> None:
        while self._decoding and self._decoding[0][0] <= self._num_decoded:
            _, _, request = heapq.heappop(self._decoding)
            self._held_tokens -= request.num_prompt_tokens + request.num_output_tokens
            window.ended.append(
                (
                    self._now_s - request.arrived_s,
                    request.first_token_s - request.arrived_s,
                    request.started_s - request.arrived_s,
                    self._now_s - request.started_s,
                )
            )

    def _describe(self, window: _Window, span_s: float) -> Reading:
        latencies, firsts, waits, services = (
            zip(*window.ended, strict=True) if window.ended else ((), (), (), ())
        )
        capacity = (self.setting[CACHE_SIZE] << 20) // self._constants.kv_bytes_per_token
        num_steps = window.num_steps
        return Reading(
            span_s=span_s,
            num_arrived=window.num_arrived,
            num_succeeded=len(window.ended),
            num_rejected=window.num_rejected,
            tokens_per_s=window.num_tokens / span_s,
            latency_p50_s=_quantile(latencies, 0.5),
            latency_p95_s=_quantile(latencies, 0.95),
            ttft_p95_s=_quantile(firsts, 0.95),
            queue_wait_p95_s=_quantile(waits, 0.95),
            service_p95_s=_quantile(services, 0.95),
            num_waiting=window.waiting_s / span_s,
            num_running=window.running_s / span_s,
            batch_size_mean=window.num_batched / num_steps if num_steps else None,
            busy_ratio=min(1.0, window.busy_s / span_s),
            step_s=window.busy_s / num_steps if num_steps else None,
            step_costs=window.fit.find(),
            cache_hit_ratio=(
                window.num_cached_tokens / window.num_prompt_tokens
                if window.num_prompt_tokens
                else None
            ),
            kv_use_ratio=min(1.0, self._held_tokens / max(1, capacity)),
        )


def _quantile(values: tuple[float, ...], share: float) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

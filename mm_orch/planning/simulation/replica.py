"""One simulated replica: the batcher's rules in virtual time.

Newcomers join at the next step, in order of arrival; prompts share a budget and are taken in
pieces; where KV memory is short, the youngest gives its own up and is computed again later.

As long as nobody joins or leaves, steps are alike and run as one span, which a newcomer cuts short
at the end of the step that it came in:

    step    |p.|p.|d|d|d|d|d|d|p.|d|d|d|          p. takes in a prompt, d only decodes
    event   |  |  |     ^newcomer|    |
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.batching.pace import share_step
from mm_orch.planning.simulation.limits import ReplicaCounts
from mm_orch.planning.simulation.prefix_cache import PrefixCache, group_key

if TYPE_CHECKING:
    import random

    from mm_orch.planning.costs import StepCosts
    from mm_orch.planning.simulation.limits import ReplicaLimits
    from mm_orch.planning.simulation.work import Request

# A batcher learns what a token costs from pieces of the size that it takes, where small ones may
# cost more; from the largest piece this is found so often.
_BUDGET_ROUNDS = 3


@dataclass(slots=True)
class _Span:
    """Steps that are under way."""

    begin_s: float
    step_s: float
    num_steps: int
    pieces: list[tuple[Request, int]] = field(default_factory=list)


class Replica:
    """A batcher with its engine and cache.

    INVARIANT: a request is in exactly one of waiting, prompts and decoding.

    Args:
        number: its name.
        costs: of its steps.
        limits: of its batches and memory.
        dice: for the noise of steps.
    """

    def __init__(
        self, number: int, costs: StepCosts, limits: ReplicaLimits, dice: random.Random
    ) -> None:
        self.number = number
        self.limits = limits
        self.is_alive = True
        self.epoch = 0
        """Of the step event that counts; earlier ones were cut short, or died."""
        self.cache = PrefixCache()
        self.counts = ReplicaCounts()
        self.num_queued_tokens = 0
        """Still to be computed for all its requests, as far as was known when they came."""
        self._costs = costs
        self._dice = dice
        self._waiting: deque[Request] = deque()
        # In order of arrival.
        self._prompts: list[Request] = []
        # By the decoding step in which each ends.
        self._decoding: list[tuple[int, int, Request]] = []
        self._num_decoded = 0
        self._num_keys = 0
        self._own_tokens = 0
        self._order = 0
        self._span: _Span | None = None

    @property
    def num_unfinished(self) -> int:
        """Requests that wait or run here."""
        return len(self._waiting) + self.num_running

    @property
    def num_running(self) -> int:
        """Requests with memory."""
        return len(self._prompts) + len(self._decoding)

    @property
    def is_stepping(self) -> bool:
        """Whether a step is under way."""
        return self._span is not None

    def count_reusable(self, request: Request) -> int:
        """Return the tokens of a request that need no computing here."""
        return self._match(request)[1]

    def submit(self, request: Request) -> None:
        """Take a request; it waits for the next step."""
        self._waiting.append(request)
        self.num_queued_tokens += request.num_known_tokens + request.num_left

    def begin(self, now_s: float) -> tuple[float, int] | None:
        """Begin the next steps; return when they end and how many start, or None without work."""
        if not self.num_unfinished:
            return None
        has_made_room = self._make_room()
        pieces, num_started = self._choose_pieces(now_s, is_admitting=not has_made_room)
        num_decoding = len(self._decoding)
        num_steps = 1 if pieces else self._count_equal_steps()
        num_prompt_tokens = sum(count for _, count in pieces)
        step_s = self._costs.step_s(
            num_decoding,
            self._num_keys + num_decoding * (num_steps + 1) / 2,
            num_prompt_tokens,
            sum(n * (r.num_known_tokens - r.num_to_compute + n / 2) for r, n in pieces),
        )
        step_s += num_started * self._costs.per_request_s
        if self.limits.noise_ratio:
            spread = self.limits.noise_ratio / math.sqrt(num_steps)
            step_s *= max(0.2, self._dice.gauss(1.0, spread))
        self._span = _Span(now_s, step_s, num_steps, pieces)
        return now_s + step_s * num_steps, num_started

    def cut_short(self, now_s: float) -> float | None:
        """End the span with the step of now, if a newcomer could join; return when that ends."""
        span = self._span
        if span is None or span.num_steps == 1 or self.num_running >= self.limits.max_batch_size:
            return None
        num_steps = max(1, math.ceil((now_s - span.begin_s) / span.step_s))
        if num_steps >= span.num_steps:
            return None
        span.num_steps = num_steps
        return span.begin_s + num_steps * span.step_s

    def finish(self, now_s: float) -> list[Request]:
        """Take in the steps that end now; return the requests that have their last token."""
        span = self._span
        assert span is not None, "no step is under way"  # noqa: S101 - the event loop's invariant
        self._span = None
        self._count(span)
        self._num_decoded += span.num_steps
        grown = len(self._decoding) * span.num_steps
        self._num_keys += grown
        self._own_tokens += grown
        self.num_queued_tokens -= grown
        self._fit_cache()
        ended = self._pop_ended(now_s)
        for request, count in span.pieces:
            request.num_to_compute -= count
            self.num_queued_tokens -= count
            if not request.num_to_compute:
                self._join(request, now_s)
        return ended + self._pop_ended(now_s)

    def die(self, now_s: float) -> list[Request]:
        """Lose everything; return the unfinished requests in order of arrival."""
        self.is_alive = False
        self.epoch += 1
        if self._span is not None:
            # The client has the tokens of the steps that have ended by now.
            num_steps = int((now_s - self._span.begin_s) / self._span.step_s)
            self._num_decoded += min(num_steps, self._span.num_steps - 1)
            self.counts.busy_s += now_s - self._span.begin_s
        for _, _, request in self._decoding:
            self._note_delivered(request)
        lost = [*self._prompts, *(one for _, _, one in self._decoding), *self._waiting]
        for request in lost:
            request.num_held = request.num_to_compute = 0
        self._waiting.clear()
        self._prompts.clear()
        self._decoding.clear()
        self._num_keys = self._own_tokens = self.num_queued_tokens = 0
        self.cache = PrefixCache()
        self._span = None
        return sorted(lost, key=_by_arrival)

    # -- memory ----------------------------------------------------------------------------------

    @property
    def _num_available(self) -> int:
        """Tokens that could be had now: free, or kept and held by nobody."""
        kept = self.cache.num_tokens - self.cache.num_unheld
        # Of the last block of each, half is not filled on average.
        unfilled = self.num_running * self.limits.block_tokens // 2
        return self.limits.kv_tokens - self._own_tokens - kept - unfilled

    def _match(self, request: Request) -> tuple[list[int], int, int]:
        """Return what is kept of a request: its keys, the tokens reused, and those held."""
        if not self.limits.is_reusing:
            return [], 0, 0
        keys, num_kept = [], 0
        if request.group is not None:
            num_kept = self.cache.count(group_key(request.group))
            if not num_kept:
                return [], 0, 0
            keys.append(group_key(request.group))
        num_own = self.cache.count(request.session)
        if num_own:
            keys.append(request.session)
            num_kept += num_own
        # The last token is always computed: the next one is drawn from what it gives.
        num_usable = min(num_kept, request.num_known_tokens - 1)
        return keys, num_usable - num_usable % self.limits.block_tokens, num_kept

    def _make_room(self) -> bool:
        """Have the youngest give up what the next token of all others needs; tell if any had to."""
        has_made_room = False
        # A request that runs alone came in because its whole length fits.
        while self._num_available < len(self._decoding) and self.num_running > 1:
            running = [*self._prompts, *(one for _, _, one in self._decoding)]
            self._preempt(max(running, key=_by_arrival))
            has_made_room = True
        return has_made_room

    def _preempt(self, request: Request) -> None:
        if request in self._prompts:
            self._prompts.remove(request)
            self.num_queued_tokens -= request.num_to_compute
        else:
            self._decoding = [entry for entry in self._decoding if entry[2] is not request]
            heapq.heapify(self._decoding)
            self._num_keys -= self._note_delivered(request)
        self.counts.num_preempted += 1
        self.num_queued_tokens += request.num_known_tokens
        num_computed = request.num_known_tokens - request.num_to_compute
        self._own_tokens -= request.num_known_tokens - request.num_held + _is_prompt(request)
        self._give_up(request, num_computed)
        self._waiting.appendleft(request)

    def _note_delivered(self, request: Request) -> int:
        """Note the tokens that a decoding request has by now; return what it attends to."""
        num_left = request.ends_at - self._num_decoded
        request.num_delivered = request.num_output_tokens - num_left
        return request.num_known_tokens

    def _give_up(self, request: Request, num_computed: int) -> None:
        """Leave the beginning that was computed of a request to the cache."""
        if not self.limits.is_reusing:
            return
        num_group, cache = 0, self.cache
        if cache.is_held(request.session):
            cache.let_go(request.session)
        if request.group is not None and request.num_held:
            num_group = cache.count(group_key(request.group))
        cache.keep(request.session, max(0, num_computed - num_group))
        if num_group and request.group is not None:
            cache.let_go(group_key(request.group))
        request.num_held = 0

    def _fit_cache(self) -> None:
        """Evict what has no room beside the memory of those that run."""
        self.cache.evict(self._own_tokens + self.cache.num_tokens - self.limits.kv_tokens)

    # -- the next step ---------------------------------------------------------------------------

    def _choose_pieces(
        self, now_s: float, *, is_admitting: bool
    ) -> tuple[list[tuple[Request, int]], int]:
        budget = self._find_budget()
        pieces: list[tuple[Request, int]] = []
        for request in self._prompts:
            count = min(request.num_to_compute, budget)
            if count:
                pieces.append((request, count))
                budget -= count
        num_started = 0
        while is_admitting and budget and self._waiting and self._admit(self._waiting[0]):
            request = self._waiting.popleft()
            if request.started_s is None:
                request.started_s = now_s
                num_started += 1
            count = min(request.num_to_compute, budget)
            pieces.append((request, count))
            budget -= count
        return pieces, num_started

    def _find_budget(self) -> int:
        limits, num_decoding = self.limits, len(self._decoding)
        num_places = max(0, limits.max_batch_size - num_decoding)
        num_prompts = min(num_places, len(self._prompts) + len(self._waiting))
        if not (limits.is_adaptive and num_decoding and num_prompts):
            return limits.max_batch_tokens
        first = self._prompts[0] if self._prompts else self._waiting[0]
        num_done = first.num_known_tokens - first.num_to_compute if self._prompts else 0
        decode_s = self._costs.step_s(num_decoding, self._num_keys, 0, 0)
        budget, per_token_s = limits.max_batch_tokens, 0.0
        for _ in range(_BUDGET_ROUNDS):
            num_pairs = budget * num_done
            whole_s = self._costs.step_s(num_decoding, self._num_keys, budget, num_pairs)
            per_token_s = max(per_token_s, (whole_s - decode_s) / budget)
            budget = share_step(
                decode_s,
                per_token_s,
                num_prompts=num_prompts,
                num_decoding=num_decoding,
                max_prompt_tokens=limits.max_batch_tokens,
            )
        return budget

    def _admit(self, request: Request) -> bool:
        """Give a request its memory, if it may run from the next step on."""
        if self.num_running >= self.limits.max_batch_size or self._is_being_computed(request):
            return False
        keys, num_reused, num_held = self._match(request)
        num_needed = request.num_known_tokens + 1 - num_held
        num_unheld = sum(self.cache.count(key) for key in keys if not self.cache.is_held(key))
        num_free = self._num_available - num_unheld - len(self._decoding)
        if self.num_running and num_needed > num_free - num_free % self.limits.block_tokens:
            return False
        for key in keys:
            self.cache.hold(key)
        self._own_tokens += num_needed
        self._fit_cache()
        request.num_held = num_held
        request.num_to_compute = request.num_known_tokens - num_reused
        self.num_queued_tokens -= num_reused
        if request.started_s is None:
            request.num_reused = num_reused
        self._prompts.append(request)
        return True

    def _is_being_computed(self, request: Request) -> bool:
        """Whether another prompt computes the beginning that this one shares."""
        group = request.group
        if group is None or not self.limits.is_reusing or self.cache.count(group_key(group)):
            return False
        return any(one.group == group for one in self._prompts)

    def _count_equal_steps(self) -> int:
        """Return after how many decoding steps somebody ends, or memory runs out."""
        num_decoding = len(self._decoding)
        num_steps = self._decoding[0][0] - self._num_decoded
        return max(1, min(num_steps, self._num_available // num_decoding))

    # -- what came of it -------------------------------------------------------------------------

    def _count(self, span: _Span) -> None:
        counts, duration_s = self.counts, span.step_s * span.num_steps
        num_running = len(self._decoding) + len(span.pieces)
        counts.busy_s += duration_s
        counts.num_steps += span.num_steps
        counts.num_batched += num_running * span.num_steps
        counts.num_prompt_tokens += sum(count for _, count in span.pieces)
        if span.pieces:
            counts.prompt_s += duration_s
        if self._waiting:
            counts.num_full_steps += span.num_steps

    def _join(self, request: Request, now_s: float) -> None:
        """Let a prompt that is computed decode; its first token came with its last piece."""
        self._prompts.remove(request)
        if request.first_token_s is None:
            request.first_token_s = now_s
        self._share_group(request)
        request.num_delivered += 1
        self.num_queued_tokens -= 1
        self._num_keys += request.num_known_tokens
        self._order += 1
        request.ends_at = self._num_decoded + request.num_left
        heapq.heappush(self._decoding, (request.ends_at, self._order, request))

    def _share_group(self, request: Request) -> None:
        """Keep the beginning of a group for its other members, once one has computed it."""
        if request.group is None or not self.limits.is_reusing:
            return
        key = group_key(request.group)
        if self.cache.count(key) or request.num_held:
            return
        self.cache.keep(key, request.num_group_tokens)
        self.cache.hold(key)
        self._own_tokens -= request.num_group_tokens
        request.num_held = request.num_group_tokens

    def _pop_ended(self, now_s: float) -> list[Request]:
        ended = []
        while self._decoding and self._decoding[0][0] <= self._num_decoded:
            _, _, request = heapq.heappop(self._decoding)
            self._num_keys -= self._note_delivered(request)
            self._own_tokens -= request.num_known_tokens - request.num_held
            # The keys and values of the last token were not needed by anybody.
            self._give_up(request, request.num_known_tokens - 1)
            request.ended_s = now_s
            ended.append(request)
        return ended


def _by_arrival(request: Request) -> tuple[float, int, int]:
    return request.arrived_s, request.session, request.turn


def _is_prompt(request: Request) -> bool:
    """Whether it has memory for a first token that has not come."""
    return request.num_to_compute > 0

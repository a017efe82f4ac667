"""Owns the waiting and running sequences of one model and turns them into steps."""

from __future__ import annotations

from bisect import insort
from itertools import count
from typing import TYPE_CHECKING

import msgspec

from mm_orch.batching.guidance import Guidance
from mm_orch.batching.pace import StepPace
from mm_orch.batching.report import StepReport, engine_failure
from mm_orch.batching.scheduler import (
    StepLimits,
    find_displaced,
    find_min_priority,
    rank_of,
    schedule,
)
from mm_orch.core.errors import EngineError, EngineFailedError, RequestError
from mm_orch.core.generation import FinishReason, SequenceStarted, TokenChunk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mm_orch.batching.scheduler import Plan
    from mm_orch.core.clock import Clock
    from mm_orch.core.errors import MuAIError
    from mm_orch.kv_cache.cache import KVCache
    from mm_orch.optimization.engines.contract import ScheduledSequence, Sequence, StepBackend


class BatcherSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How sequences share steps.

    Attributes:
        max_batch_size: most sequences in a step; 1 is one at a time.
        max_batch_tokens: most prompt tokens in a step.
        min_batch_size: an idle batcher waits for so many sequences ...
        batch_timeout_s: ... but no longer than this for the first of them.
        is_adaptive: take in fewer prompt tokens a step while others decode, by measured time.
    """

    max_batch_size: int
    max_batch_tokens: int
    min_batch_size: int = 1
    batch_timeout_s: float = 0.0
    is_adaptive: bool = True


class DynamicBatcher:
    """Continuous batching over a step backend: newcomers join at the next step.

    INVARIANT: a sequence is in exactly one of waiting and running, and the cache has a table for
    running sequences only.
    """

    def __init__(
        self,
        backend: StepBackend,
        cache: KVCache,
        spec: BatcherSpec,
        clock: Clock,
        guidance: Guidance | None = None,
    ) -> None:
        self._backend = backend
        self._guidance = guidance or Guidance()
        self._cache = cache
        self._spec = spec
        self._clock = clock
        self._pace = StepPace(spec.max_batch_tokens, is_adaptive=spec.is_adaptive)
        self._numbers = count()
        # In order of rank.
        self._waiting: list[Sequence] = []
        self._running: dict[str, Sequence] = {}
        # Of sequences that no step has touched yet, in order of arrival.
        self._arrival_s: dict[str, float] = {}
        # Whether the last step left out those of lower priority: never twice running, so that a
        # stream of such prompts halves their pace and no more.
        self._has_favoured = False

    @property
    def spec(self) -> BatcherSpec:
        """How sequences share steps now."""
        return self._spec

    def configure(self, spec: BatcherSpec) -> None:
        """Share the steps that follow like this; those that run already go on to their end."""
        self._spec = spec
        self._pace.max_prompt_tokens = spec.max_batch_tokens

    @property
    def num_waiting(self) -> int:
        """Sequences without memory: new ones, and those that were preempted."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Sequences with memory."""
        return len(self._running)

    @property
    def has_work(self) -> bool:
        """Whether any sequence is unfinished."""
        return bool(self._waiting or self._running)

    @property
    def wait_s(self) -> float | None:
        """Seconds until the next step should run unless more arrives; None without work.

        Only an idle engine waits for a fuller batch; one that runs takes newcomers as they come.
        """
        if not self.has_work:
            return None
        if self._running or self.num_waiting >= self._spec.min_batch_size or not self._arrival_s:
            return 0.0
        oldest_s = next(iter(self._arrival_s.values()))
        return max(0.0, oldest_s + self._spec.batch_timeout_s - self._clock())

    def add(self, sequence: Sequence, *, since_s: float | None = None) -> None:
        """Queue a sequence by its rank.

        Args:
            sequence: what to continue.
            since_s: when it began to wait, elsewhere at first; None for now.
        """
        sequence.arrival = next(self._numbers)
        self._arrival_s[sequence.sequence_id] = now_s = self._clock()
        sequence.since_s = now_s if since_s is None else since_s
        insort(self._waiting, sequence, key=rank_of)

    def abort(self, sequence_ids: Iterable[str]) -> None:
        """Drop these sequences, whether they wait or run; unknown ids are ignored."""
        dropped = set(sequence_ids)
        self._waiting = [s for s in self._waiting if s.sequence_id not in dropped]
        for sequence_id in dropped:
            self._arrival_s.pop(sequence_id, None)
        self._guidance.release(dropped)
        self._leave(dropped & self._running.keys())

    def release_conversation(self, conversation_id: str) -> None:
        """Free what only this conversation needs, of its unfinished turns when they end."""
        if not conversation_id:
            return
        for sequence in (*self._waiting, *self._running.values()):
            if sequence.conversation_id == conversation_id:
                sequence.is_released = True
        self._cache.release_conversation(conversation_id)

    def step(self) -> StepReport:
        """Advance one batch; with no work, the report is of a batch of size 0."""
        plan, num_displaced = self._plan()
        for sequence in plan.preempted:
            self._preempt(sequence)
        started = self._enter(plan.batch)
        batch, refused = self._mask(plan.batch)
        phase = phase_of(batch)
        begin_s = self._clock()
        chunks, failed = self._compute(batch)
        duration_s = self._clock() - begin_s
        if not failed:
            self._learn(batch, duration_s)
        self._advance(batch, {sequence_id for sequence_id, _ in failed})
        told, strayed = self._take_all(chunks)
        return StepReport(
            chunks=told,
            started=started,
            failed=[*refused, *failed, *strayed],
            phase=phase,
            batch_size=len(batch),
            num_preempted=num_displaced + len(plan.preempted),
            duration_s=duration_s,
        )

    @property
    def _max_tokens(self) -> int:
        return self._cache.num_blocks * self._cache.block_tokens

    def _plan(self) -> tuple[Plan, int]:
        """Choose the next step; return how many gave way to who comes with a higher priority."""
        first = self._waiting[0] if self._waiting else None
        least = None if self._has_favoured else find_min_priority(self._running.values(), first)
        plan, num_displaced = self._schedule(least), 0
        while (displaced := find_displaced(self._running.values(), plan.kept_out)) is not None:
            self._preempt(displaced)
            num_displaced += 1
            plan = self._schedule(least)
        if least is not None and not plan.has_prompt:
            # Nobody would gain by it.
            least = None
            plan = self._schedule(None)
        self._has_favoured = least is not None
        return plan, num_displaced

    def _schedule(self, least: int | None) -> Plan:
        limits = self._find_limits(least)
        return schedule(self._running.values(), self._waiting, limits, self._cache)

    def _find_limits(self, least: int | None) -> StepLimits:
        taking_part = [
            one for one in self._running.values() if least is None or one.priority >= least
        ]
        num_decoding = sum(sequence.is_decoding for sequence in taking_part)
        num_places = max(0, self._spec.max_batch_size - num_decoding)
        num_prompts = min(num_places, len(taking_part) - num_decoding + self.num_waiting)
        budget = self._pace.find_budget(
            num_prompts=num_prompts,
            num_decoding=num_decoding,
            num_keys=self._count_next_keys(taking_part),
        )
        return StepLimits(
            max_batch_size=self._spec.max_batch_size,
            max_prompt_tokens=budget,
            min_priority=least,
        )

    def _count_next_keys(self, taking_part: Iterable[Sequence]) -> int:
        """Keys that the next prompt token attends to, of the prompt whose turn it is."""
        prompts = [one for one in taking_part if not one.is_decoding]
        if prompts:
            return min(prompts, key=rank_of).num_computed_tokens
        return self._cache.find(self._waiting[0].token_ids).num_tokens if self._waiting else 0

    def _preempt(self, sequence: Sequence) -> None:
        del self._running[sequence.sequence_id]
        self._cache.close(sequence.sequence_id)
        sequence.num_computed_tokens = 0
        insort(self._waiting, sequence, key=rank_of)

    def _enter(self, batch: list[ScheduledSequence]) -> list[SequenceStarted]:
        now_s = self._clock()
        started = []
        for scheduled in batch:
            sequence, sequence_id = scheduled.sequence, scheduled.sequence.sequence_id
            if sequence_id not in self._running:
                arrival_s = self._arrival_s.pop(sequence_id, None)
                sequence.block_ids, sequence.num_computed_tokens = self._cache.open(
                    sequence_id,
                    sequence.token_ids,
                    is_resumed=arrival_s is None,
                    conversation_id=sequence.conversation_id,
                    is_released=sequence.is_released,
                )
                self._running[sequence_id] = sequence
                if arrival_s is not None:
                    started.append(
                        SequenceStarted(
                            sequence_id=sequence_id,
                            waited_s=now_s - arrival_s,
                            num_cached_tokens=sequence.num_computed_tokens,
                        )
                    )
        self._waiting = [s for s in self._waiting if s.sequence_id not in self._running]
        for scheduled in batch:
            sequence = scheduled.sequence
            num_tokens = sequence.num_computed_tokens + scheduled.num_new_tokens
            self._cache.grow(sequence.sequence_id, num_tokens)
        return started

    def _mask(
        self, batch: list[ScheduledSequence]
    ) -> tuple[list[ScheduledSequence], list[tuple[str, MuAIError]]]:
        """Say what each sequence may take next; part those for which that fails."""
        kept: list[ScheduledSequence] = []
        refused: list[tuple[str, MuAIError]] = []
        for scheduled in batch:
            try:
                if scheduled.completes_prompt:
                    self._guidance.mask(scheduled.sequence)
            except (EngineError, RequestError) as error:
                refused.append((scheduled.sequence.sequence_id, error))
            else:
                kept.append(scheduled)
        self._leave([sequence_id for sequence_id, _ in refused])
        return kept, refused

    def _compute(
        self, batch: list[ScheduledSequence]
    ) -> tuple[list[TokenChunk], list[tuple[str, EngineError]]]:
        if not batch:
            return [], []
        try:
            return self._backend.step(batch), []
        except EngineError as error:
            return self._retry(batch, error)
        except Exception as error:  # noqa: BLE001 - boundary: libraries may raise anything
            return self._retry(batch, engine_failure(error))

    def _retry(
        self, batch: list[ScheduledSequence], error: EngineError
    ) -> tuple[list[TokenChunk], list[tuple[str, EngineError]]]:
        """Compute each sequence alone, so that only those that fail by themselves are lost."""
        if len(batch) == 1:
            return [], [(batch[0].sequence.sequence_id, error)]
        outcomes = [self._compute([scheduled]) for scheduled in batch]
        return (
            [chunk for chunks, _ in outcomes for chunk in chunks],
            [failure for _, failures in outcomes for failure in failures],
        )

    def _learn(self, batch: list[ScheduledSequence], duration_s: float) -> None:
        num_decoding = sum(scheduled.sequence.is_decoding for scheduled in batch)
        prompts = [one for one in batch if not one.sequence.is_decoding]
        self._pace.observe(
            num_prompt_tokens=sum(one.num_new_tokens for one in prompts),
            num_pairs=sum(
                one.num_new_tokens * (one.sequence.num_computed_tokens + one.num_new_tokens // 2)
                for one in prompts
            ),
            num_decoding=num_decoding,
            duration_s=duration_s,
        )

    def _advance(self, batch: list[ScheduledSequence], lost_ids: set[str]) -> None:
        self._leave(lost_ids)
        for scheduled in batch:
            sequence = scheduled.sequence
            if sequence.sequence_id not in lost_ids:
                sequence.num_computed_tokens += scheduled.num_new_tokens
                self._cache.commit(
                    sequence.sequence_id, sequence.token_ids, sequence.num_computed_tokens
                )

    def _take_all(
        self, chunks: list[TokenChunk]
    ) -> tuple[list[TokenChunk], list[tuple[str, MuAIError]]]:
        taken: list[TokenChunk] = []
        strayed: list[tuple[str, MuAIError]] = []
        for chunk in chunks:
            try:
                taken.append(self._take(chunk))
            except EngineFailedError as error:
                strayed.append((chunk.sequence_id, error))
                self._leave([chunk.sequence_id])
        return taken, strayed

    def _take(self, chunk: TokenChunk) -> TokenChunk:
        sequence = self._running[chunk.sequence_id]
        sequence.token_ids.extend(chunk.token_ids)
        reason = find_finish_reason(sequence)
        is_stop_token = reason is FinishReason.STOP
        if self._guidance.accept(sequence, chunk.token_ids):
            # Its shape is complete, and nothing may follow but an end.
            reason = FinishReason.STOP
        elif reason is None and len(sequence.token_ids) >= self._max_tokens:
            # Only for sequences longer than their engine was started for.
            reason = FinishReason.LENGTH
        if reason is None:
            return chunk
        self._leave([sequence.sequence_id])
        if is_stop_token:
            return TokenChunk(
                sequence_id=chunk.sequence_id, token_ids=(), logprobs=None, finish_reason=reason
            )
        return msgspec.structs.replace(chunk, finish_reason=reason)

    def _leave(self, sequence_ids: Iterable[str]) -> None:
        for sequence_id in sequence_ids:
            del self._running[sequence_id]
            self._cache.close(sequence_id)
            self._guidance.release([sequence_id])


def find_finish_reason(sequence: Sequence) -> FinishReason | None:
    """Why the sequence ends after its newest token, or None when it goes on."""
    params = sequence.params
    is_stop = sequence.token_ids[-1] in params.stop_token_ids and not params.ignore_eos
    if is_stop and sequence.num_output_tokens > params.min_tokens:
        return FinishReason.STOP
    if sequence.num_output_tokens >= params.max_tokens:
        return FinishReason.LENGTH
    return None


def phase_of(batch: list[ScheduledSequence]) -> str:
    """What a step mostly does: prefill (prompts only), decode (one token each) or mixed."""
    kinds = {"decode" if scheduled.sequence.is_decoding else "prefill" for scheduled in batch}
    return kinds.pop() if len(kinds) == 1 else "mixed"

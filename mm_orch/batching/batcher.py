"""Owns the waiting and running sequences of one model and turns them into steps."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from mm_orch.batching.scheduler import schedule
from mm_orch.core.errors import EngineError, EngineFailedError
from mm_orch.core.generation import FinishReason, TokenChunk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mm_orch.batching.scheduler import BatchLimits
    from mm_orch.core.clock import Clock
    from mm_orch.optimization.engines.contract import ScheduledSequence, Sequence, StepBackend


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What one step did.

    Attributes:
        chunks: new tokens, with the finish reason on a sequence's last.
        started: (sequence id, seconds it had waited) of sequences in their first step.
        failed: sequences that the step lost, with the error; empty when the step succeeded.
        phase: prefill, decode or mixed.
        batch_size: sequences in the step.
        duration_s: time that the backend took.
    """

    chunks: list[TokenChunk]
    started: list[tuple[str, float]]
    failed: list[tuple[str, EngineError]]
    phase: str
    batch_size: int
    duration_s: float


class DynamicBatcher:
    """Continuous batching over a step backend: newcomers join at the next step.

    INVARIANT: a sequence is in exactly one of waiting and running, and the backend holds state
    for running sequences only.
    """

    def __init__(self, backend: StepBackend, limits: BatchLimits, clock: Clock) -> None:
        self._backend = backend
        self._limits = limits
        self._clock = clock
        self._waiting: deque[Sequence] = deque()
        self._running: dict[str, Sequence] = {}
        self._arrival_s: dict[str, float] = {}

    @property
    def num_waiting(self) -> int:
        """Sequences that no step has touched yet."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Sequences that the backend holds state for."""
        return len(self._running)

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._waiting or self._running)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence behind those already waiting."""
        self._arrival_s[sequence.sequence_id] = self._clock()
        self._waiting.append(sequence)

    def abort(self, sequence_ids: Iterable[str]) -> None:
        """Drop these sequences, whether they wait or run; unknown ids are ignored."""
        dropped = set(sequence_ids)
        self._waiting = deque(s for s in self._waiting if s.sequence_id not in dropped)
        for sequence_id in dropped:
            self._arrival_s.pop(sequence_id, None)
        self._leave(dropped & self._running.keys())

    def step(self) -> StepReport:
        """Advance one batch; with no work, the report is of a batch of size 0."""
        batch = schedule(self._running.values(), self._waiting, self._limits)
        started = self._enter(batch)
        phase = phase_of(batch)
        begin = self._clock()
        chunks, failed = self._compute(batch)
        duration_s = self._clock() - begin
        if not failed:
            for scheduled in batch:
                scheduled.sequence.num_computed_tokens += scheduled.num_new_tokens
        return StepReport(
            chunks=[self._take(chunk) for chunk in chunks],
            started=started,
            failed=failed,
            phase=phase,
            batch_size=len(batch),
            duration_s=duration_s,
        )

    def _compute(
        self, batch: list[ScheduledSequence]
    ) -> tuple[list[TokenChunk], list[tuple[str, EngineError]]]:
        if not batch:
            return [], []
        try:
            return self._backend.step(batch), []
        except EngineError as error:
            return [], self._fail(batch, error)
        except Exception as error:  # noqa: BLE001 - boundary: libraries may raise anything
            wrapped = EngineFailedError(f"The engine failed: {type(error).__name__}: {error}.")
            wrapped.__cause__ = error
            return [], self._fail(batch, wrapped)

    def _enter(self, batch: list[ScheduledSequence]) -> list[tuple[str, float]]:
        now = self._clock()
        started = []
        for scheduled in batch:
            sequence = scheduled.sequence
            if sequence.sequence_id not in self._running:
                self._running[sequence.sequence_id] = sequence
                # The scheduler takes newcomers in order, so this is always the first in line.
                self._waiting.popleft()
                arrival_s = self._arrival_s.pop(sequence.sequence_id)
                started.append((sequence.sequence_id, now - arrival_s))
        return started

    def _take(self, chunk: TokenChunk) -> TokenChunk:
        sequence = self._running[chunk.sequence_id]
        sequence.token_ids.extend(chunk.token_ids)
        reason = find_finish_reason(sequence)
        if reason is None:
            return chunk
        self._leave([sequence.sequence_id])
        if reason is FinishReason.STOP:
            return TokenChunk(
                sequence_id=chunk.sequence_id, token_ids=(), logprobs=None, finish_reason=reason
            )
        return msgspec.structs.replace(chunk, finish_reason=reason)

    def _fail(
        self, batch: list[ScheduledSequence], error: EngineError
    ) -> list[tuple[str, EngineError]]:
        sequence_ids = [scheduled.sequence.sequence_id for scheduled in batch]
        self._leave(sequence_ids)
        return [(sequence_id, error) for sequence_id in sequence_ids]

    def _leave(self, sequence_ids: Iterable[str]) -> None:
        leaving = list(sequence_ids)
        for sequence_id in leaving:
            del self._running[sequence_id]
        self._backend.release(leaving)


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
    kinds = {"decode" if scheduled.sequence.num_output_tokens else "prefill" for scheduled in batch}
    return kinds.pop() if len(kinds) == 1 else "mixed"

"""The real batcher and cache, driven in virtual time by steps that take what costs say."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.batching.batcher import BatcherSpec, DynamicBatcher
from mm_orch.core.generation import SamplingParams, TokenChunk
from mm_orch.kv_cache.cache import KVCache
from mm_orch.optimization.engines.contract import (
    Availability,
    EngineFacts,
    ScheduledSequence,
    Sequence,
)

if TYPE_CHECKING:
    from collections.abc import Sequence as Batch

    from mm_orch.optimization.engines.contract import EngineSpec
    from mm_orch.planning.costs import StepCosts
    from mm_orch.planning.simulation.limits import ReplicaLimits
    from mm_orch.planning.simulation.work import Session

    Key = tuple[int, int]


class TimedBackend:
    """An engine whose steps move the clock by what they cost."""

    name = "timed"

    def __init__(self, costs: StepCosts) -> None:
        self.now_s = 0.0
        self._costs = costs
        self._next_token = 1_000_000

    @classmethod
    def probe(cls) -> Availability:
        return Availability(engine=cls.name, is_available=True)

    def start(self, spec: EngineSpec) -> EngineFacts:
        return EngineFacts(
            engine=self.name, dtype="none", device="cpu", context_length=spec.context_length
        )

    def stop(self) -> None:
        """Hold nothing."""

    def step(self, batch: Batch[ScheduledSequence]) -> list[TokenChunk]:
        decoding = [one for one in batch if one.sequence.is_decoding]
        prompts = [one for one in batch if not one.sequence.is_decoding]
        self.now_s += self._costs.step_s(
            len(decoding),
            sum(len(one.sequence.token_ids) for one in decoding),
            sum(one.num_new_tokens for one in prompts),
            sum(
                one.num_new_tokens * (one.sequence.num_computed_tokens + one.num_new_tokens / 2)
                for one in prompts
            ),
        )
        return [self._chunk(one) for one in batch if one.completes_prompt]

    def _chunk(self, scheduled: ScheduledSequence) -> TokenChunk:
        self._next_token += 1
        return TokenChunk(
            sequence_id=scheduled.sequence.sequence_id,
            token_ids=(self._next_token,),
            logprobs=None,
        )


@dataclass(slots=True)
class Seen:
    """What came of each turn, by session and turn."""

    first_token_s: dict[Key, float] = field(default_factory=dict)
    ended_s: dict[Key, float] = field(default_factory=dict)
    num_reused: dict[Key, int] = field(default_factory=dict)
    num_preempted: int = 0


class RealBatcher:
    """Runs sessions through it."""

    def __init__(self, costs: StepCosts, limits: ReplicaLimits, num_blocks: int) -> None:
        self._backend = TimedBackend(costs)
        cache = KVCache(num_blocks, limits.block_tokens, is_reusing=limits.is_reusing)
        spec = BatcherSpec(
            max_batch_size=limits.max_batch_size,
            max_batch_tokens=limits.max_batch_tokens,
            is_adaptive=limits.is_adaptive,
        )
        self._batcher = DynamicBatcher(self._backend, cache, spec, lambda: self._backend.now_s)
        self._due: list[tuple[float, int, int, list[int]]] = []
        self._sequences: dict[str, Sequence] = {}
        self._seen = Seen()

    def run(self, sessions: list[Session]) -> Seen:
        for number, session in enumerate(sessions):
            shared = [] if session.group is None else _tokens(-1 - session.group, 0, 0)
            heapq.heappush(
                self._due, (session.arrived_s, number, 0, shared[: session.num_group_tokens])
            )
        while self._due or self._batcher.has_work:
            if not self._batcher.has_work:
                self._backend.now_s = max(self._backend.now_s, self._due[0][0])
            while self._due and self._due[0][0] <= self._backend.now_s:
                self._submit(sessions)
            self._step(sessions)
        return self._seen

    def _submit(self, sessions: list[Session]) -> None:
        _, number, turn, history = heapq.heappop(self._due)
        asked = sessions[number].turns[turn]
        new = _tokens(number, turn, 0)[: asked.num_prompt_tokens]
        sequence = Sequence(
            sequence_id=f"{number} {turn}",
            token_ids=[*history, *new],
            params=SamplingParams(
                max_tokens=asked.num_output_tokens, temperature=0.0, ignore_eos=True
            ),
        )
        self._sequences[sequence.sequence_id] = sequence
        self._batcher.add(sequence)

    def _step(self, sessions: list[Session]) -> None:
        report = self._batcher.step()
        assert not report.failed
        self._seen.num_preempted += report.num_preempted
        for one in report.started:
            self._seen.num_reused[_key(one.sequence_id)] = one.num_cached_tokens
        for chunk in report.chunks:
            number, turn = key = _key(chunk.sequence_id)
            self._seen.first_token_s.setdefault(key, self._backend.now_s)
            if chunk.finish_reason is not None:
                self._seen.ended_s[key] = self._backend.now_s
                turns = sessions[number].turns
                if turn + 1 < len(turns):
                    due_s = self._backend.now_s + turns[turn + 1].think_s
                    history = list(self._sequences[chunk.sequence_id].token_ids)
                    heapq.heappush(self._due, (due_s, number, turn + 1, history))


def _key(sequence_id: str) -> Key:
    number, turn = sequence_id.split()
    return int(number), int(turn)


def _tokens(number: int, turn: int, begin: int) -> list[int]:
    """Tokens that no other turn has."""
    first = (number * 64 + turn + 1_000_000) * 10_000 + begin
    return list(range(first, first + 4_000))

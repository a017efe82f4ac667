"""The batcher over the real echo engine, with arbitrary arrivals, aborts and limits."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.batching.batcher import BatcherSpec, DynamicBatcher
from mm_orch.core.generation import FinishReason, SamplingParams, TokenChunk
from mm_orch.kv_cache.cache import KVCache
from mm_orch.optimization.engines.contract import EngineSpec, ScheduledSequence, Sequence
from mm_orch.optimization.engines.echo import EchoBackend

if TYPE_CHECKING:
    from collections.abc import Sequence as Batch

EOS = 0
# Memory for one sequence of full length: four blocks, so that several crowd each other out.
SPEC = EngineSpec(
    model="m", directory="", cache_directory="", context_length=64, eos_token_ids=(EOS,)
)
LIMITS = st.builds(
    BatcherSpec,
    max_batch_size=st.integers(1, 6),
    max_batch_tokens=st.integers(1, 20),
    is_adaptive=st.booleans(),
)
REQUESTS = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 20)), min_size=1, max_size=12)


class CountingEcho(EchoBackend):
    """Notes how many prompt tokens each step computes."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt_tokens: list[int] = []

    def step(self, batch: Batch[ScheduledSequence]) -> list[TokenChunk]:
        self.prompt_tokens.append(
            sum(s.num_new_tokens for s in batch if not s.sequence.is_decoding)
        )
        return super().step(batch)


def make_batcher(
    limits: BatcherSpec, backend: EchoBackend | None = None
) -> tuple[DynamicBatcher, KVCache]:
    backend = backend or EchoBackend()
    facts = backend.start(SPEC)
    ticks = itertools.count()
    cache = KVCache(facts.num_kv_blocks, facts.kv_block_tokens)
    return DynamicBatcher(backend, cache, limits, lambda: float(next(ticks))), cache


def make(number: int, num_prompt: int, max_tokens: int) -> Sequence:
    return Sequence(
        sequence_id=str(number),
        token_ids=list(range(1, num_prompt + 1)),
        params=SamplingParams(max_tokens=max_tokens, stop_token_ids=(EOS,)),
    )


@given(REQUESTS, LIMITS)
def test_every_sequence_ends_with_its_own_text(
    requests: list[tuple[int, int]], limits: BatcherSpec
) -> None:
    batcher, cache = make_batcher(limits)
    outputs: dict[str, list[int]] = {}
    reasons: dict[str, FinishReason] = {}
    for number, (num_prompt, max_tokens) in enumerate(requests):
        batcher.add(make(number, num_prompt, max_tokens))

    while batcher.has_work:
        report = batcher.step()
        assert 1 <= report.batch_size <= limits.max_batch_size
        for chunk in report.chunks:
            assert chunk.sequence_id not in reasons
            outputs.setdefault(chunk.sequence_id, []).extend(chunk.token_ids)
            if chunk.finish_reason is not None:
                reasons[chunk.sequence_id] = chunk.finish_reason

    for number, (num_prompt, max_tokens) in enumerate(requests):
        said_all = num_prompt < max_tokens
        expected = list(range(1, num_prompt + 1))[:max_tokens]
        assert outputs[str(number)] == expected
        assert reasons[str(number)] is (FinishReason.STOP if said_all else FinishReason.LENGTH)
    cache.check()
    assert cache.num_available == cache.num_blocks


@given(REQUESTS, LIMITS, st.lists(st.integers(0, 11), max_size=8))
def test_aborts_leave_nothing_behind(
    requests: list[tuple[int, int]], limits: BatcherSpec, aborts: list[int]
) -> None:
    batcher, cache = make_batcher(limits)
    for number, (num_prompt, max_tokens) in enumerate(requests):
        batcher.add(make(number, num_prompt, max_tokens))
    ended: set[str] = set()

    for number in aborts:
        if batcher.has_work:
            report = batcher.step()
            ended |= {c.sequence_id for c in report.chunks if c.finish_reason is not None}
        batcher.abort([str(number), "never seen"])
        cache.check()
    batcher.abort([str(number) for number in range(len(requests))])

    assert not batcher.has_work
    cache.check()
    assert cache.num_available == cache.num_blocks


@given(REQUESTS, LIMITS)
def test_within_a_priority_sequences_start_in_order_of_arrival(
    requests: list[tuple[int, int]], limits: BatcherSpec
) -> None:
    batcher, _ = make_batcher(limits)
    for number, (num_prompt, max_tokens) in enumerate(requests):
        sequence = make(number, num_prompt, max_tokens)
        sequence.priority = number % 2
        batcher.add(sequence)
    started: list[int] = []
    while batcher.has_work:
        started += [int(one.sequence_id) for one in batcher.step().started]

    for parity in (0, 1):
        of_one = [number for number in started if number % 2 == parity]
        assert of_one == sorted(of_one)


@given(REQUESTS, LIMITS)
def test_no_step_computes_more_prompt_tokens_than_allowed(
    requests: list[tuple[int, int]], limits: BatcherSpec
) -> None:
    backend = CountingEcho()
    batcher, _ = make_batcher(limits, backend)
    for number, (num_prompt, max_tokens) in enumerate(requests):
        batcher.add(make(number, num_prompt, max_tokens))
    while batcher.has_work:
        batcher.step()

    assert max(backend.prompt_tokens) <= limits.max_batch_tokens


def test_after_five_thousand_requests_every_block_is_free_or_cached() -> None:
    dice = random.Random(3)  # noqa: S311 - reproducible on purpose
    limits = BatcherSpec(max_batch_size=12, max_batch_tokens=40)
    backend = EchoBackend()
    facts = backend.start(msgspec.structs.replace(SPEC, max_kv_bytes=64 * 16))
    cache = KVCache(facts.num_kv_blocks, facts.kv_block_tokens)
    batcher = DynamicBatcher(backend, cache, limits, lambda: 0.0)
    beginnings = [[dice.randint(1, 9) for _ in range(32)] for _ in range(5)]
    num_added = num_preempted = 0

    while num_added < 5000 or batcher.has_work:
        for _ in range(dice.randint(0, 3)):
            if num_added < 5000:
                prompt = dice.choice(beginnings)[: dice.randint(1, 32)]
                params = SamplingParams(max_tokens=dice.randint(1, 30), ignore_eos=True)
                batcher.add(
                    Sequence(sequence_id=str(num_added), token_ids=list(prompt), params=params)
                )
                num_added += 1
        if dice.random() < 0.05:
            batcher.abort([str(dice.randint(0, num_added))])
        report = batcher.step()
        num_preempted += report.num_preempted
        assert not report.failed
        # What is handed out never exceeds what there is: a block is memory, and has one place.
        assert cache.stats.num_free >= 0
        cache.check()

    assert cache.stats.num_free + cache.stats.num_cached == facts.num_kv_blocks
    assert facts.num_kv_blocks * facts.kv_block_bytes <= 64 * 16
    # Memory was short all the time, or this would say nothing.
    assert num_preempted > 100
    assert cache.stats.num_evictions > 100

"""Batcher and KV memory while their bounds change between the steps, over the real echo engine."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.batching.batcher import BatcherSpec, DynamicBatcher
from mm_orch.core.errors import EngineOutOfMemoryError
from mm_orch.core.generation import SamplingParams
from mm_orch.kv_cache.cache import KVCache
from mm_orch.optimization.engines.contract import EngineSpec, Sequence
from mm_orch.optimization.engines.echo import EchoBackend
from mm_orch.workers.kv_pool import KVPool

EOS = 0
BLOCK_BYTES = 64
# Four blocks hold a sequence of full length.
SPEC = EngineSpec(
    model="m",
    directory="",
    cache_directory="",
    context_length=64,
    eos_token_ids=(EOS,),
    max_kv_bytes=8 * BLOCK_BYTES,
)
REQUESTS = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=12)
LIMITS = st.builds(
    BatcherSpec,
    max_batch_size=st.integers(1, 6),
    max_batch_tokens=st.integers(1, 20),
    is_adaptive=st.booleans(),
)
CHANGES = st.lists(
    st.tuples(st.integers(0, 6), LIMITS, st.sampled_from([0, 4, 5, 9, 16]), st.booleans()),
    max_size=12,
)


class Parts:
    """An engine under batcher and cache, as a worker puts them together."""

    def __init__(self, backend: EchoBackend | None = None) -> None:
        self.backend = backend or EchoBackend()
        facts = self.backend.start(SPEC)
        self.cache = KVCache(facts.num_kv_blocks, facts.kv_block_tokens)
        self.pool = KVPool(self.backend, facts, SPEC, self.cache)
        limits = BatcherSpec(max_batch_size=4, max_batch_tokens=16)
        self.batcher = DynamicBatcher(self.backend, self.cache, limits, lambda: 0.0)
        self.outputs: dict[str, list[int]] = {}

    def add(self, number: int, num_prompt: int, max_tokens: int, *, first: int = 1) -> None:
        params = SamplingParams(max_tokens=max_tokens, ignore_eos=True)
        prompt = list(range(first, first + num_prompt))
        self.batcher.add(Sequence(sequence_id=str(number), token_ids=prompt, params=params))

    def step(self) -> int:
        report = self.batcher.step()
        self.pool.give_back()
        assert not report.failed
        for chunk in report.chunks:
            self.outputs.setdefault(chunk.sequence_id, []).extend(chunk.token_ids)
        self.cache.check()
        return report.batch_size


@given(REQUESTS, CHANGES)
def test_whatever_changes_every_sequence_says_its_own_text(
    requests: list[tuple[int, int]], changes: list[tuple[int, BatcherSpec, int, bool]]
) -> None:
    parts = Parts()
    for number, (num_prompt, max_tokens) in enumerate(requests):
        parts.add(number, num_prompt, max_tokens)

    for num_steps, limits, num_blocks, is_reusing in changes:
        for _ in range(num_steps):
            if parts.batcher.has_work:
                assert parts.step() >= 1
        parts.batcher.configure(limits)
        parts.pool.set_bound(num_blocks * BLOCK_BYTES, is_reusing=is_reusing)
        stats = parts.cache.stats
        assert stats.num_target_blocks == (num_blocks or 4)
        assert stats.num_blocks <= stats.num_allocated_blocks
    while parts.batcher.has_work:
        assert parts.step() >= 1

    for number, (num_prompt, max_tokens) in enumerate(requests):
        said = [1 + place % num_prompt for place in range(max_tokens)]
        assert parts.outputs[str(number)] == said
    assert parts.cache.num_available == parts.cache.num_blocks
    # With nothing to wait for, all that is over the bound has been given back.
    assert parts.cache.num_allocated_blocks == parts.cache.num_blocks


def test_memory_is_given_back_when_the_sequences_that_hold_it_end() -> None:
    parts = Parts()
    for number in range(2):
        parts.add(number, 30, 20, first=1 + 100 * number)
    while any(len(parts.outputs.get(str(number), ())) < 3 for number in range(2)):
        parts.step()

    parts.pool.set_bound(4 * BLOCK_BYTES, is_reusing=True)
    before = parts.cache.stats
    parts.batcher.abort(["1"])
    parts.pool.give_back()

    assert (before.num_target_blocks, before.num_allocated_blocks) == (4, 8)
    assert parts.cache.stats.num_allocated_blocks == 4
    while parts.batcher.has_work:
        parts.step()
    assert parts.outputs["0"] == [1 + place % 30 for place in range(20)]


def test_a_bound_for_which_there_is_no_memory_changes_nothing() -> None:
    class Full(EchoBackend):
        def resize_kv(self, num_blocks: int, *, num_kept: int) -> None:
            raise EngineOutOfMemoryError(f"no memory for {num_blocks}, {num_kept} kept")

    parts = Parts(Full())
    before = parts.cache.stats
    with pytest.raises(EngineOutOfMemoryError):
        parts.pool.set_bound(9 * BLOCK_BYTES, is_reusing=True)

    assert parts.cache.stats == before
    # To shrink takes no memory that would have to be there.
    parts.pool.set_bound(5 * BLOCK_BYTES, is_reusing=True)
    assert parts.cache.stats == msgspec.structs.replace(
        before, num_blocks=5, num_free=5, num_target_blocks=5, num_allocated_blocks=5
    )

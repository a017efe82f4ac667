from __future__ import annotations

import msgspec
import pytest

from mm_orch.batching.batcher import BatcherSpec
from mm_orch.live.decision import (
    BATCH_TIMEOUT,
    CACHE_MEMORY,
    MAX_BATCH_SIZE,
    MAX_BATCH_TOKENS,
    MIN_BATCH_SIZE,
)
from mm_orch.live.refusals import find_refusals
from mm_orch.optimization.engines.contract import EngineFacts, EngineSpec
from mm_orch.workers.messages import CacheSpec, Ready, Sharing, WorkerSpec

ALL = (MAX_BATCH_SIZE, MIN_BATCH_SIZE, BATCH_TIMEOUT, MAX_BATCH_TOKENS, CACHE_MEMORY)
MIB = 1 << 20
# A sequence of full length takes four blocks of one MiB; there are ten.
SPEC = WorkerSpec(
    address="",
    engine="stout",
    engine_spec=EngineSpec(
        model="m",
        directory="",
        cache_directory="",
        context_length=64,
        eos_token_ids=(0,),
        max_batch_size=8,
        max_batch_tokens=100,
        max_kv_bytes=12 * MIB,
    ),
    batcher=BatcherSpec(max_batch_size=8, max_batch_tokens=100),
    cache=CacheSpec(),
)
FACTS = EngineFacts(
    engine="stout",
    dtype="fp32",
    device="cpu",
    context_length=64,
    kv_block_tokens=16,
    kv_block_bytes=MIB,
    num_kv_blocks=10,
)
RESIZABLE = Ready(facts=FACTS, is_resizable=True)
RIGID = Ready(facts=FACTS)
FIXED = Ready(facts=msgspec.structs.replace(FACTS, has_fixed_steps=True), is_resizable=True)
STREAMING = Ready(facts=FACTS, batches_itself=True)


@pytest.mark.parametrize(
    ("ready", "keys", "sizes", "refused"),
    [
        (RESIZABLE, ALL, (99, 999, 64), []),
        (RESIZABLE, ALL, (1, 1, 0), []),
        (RESIZABLE, ALL, (1, 1, 3), [CACHE_MEMORY]),
        (RESIZABLE, (MAX_BATCH_SIZE,), (1, 1, 3), []),
        (RIGID, ALL, (99, 999, 4), []),
        # More than it has, and no more than it was started for: it has what the machine allows.
        (RIGID, ALL, (99, 999, 12), []),
        (RIGID, ALL, (99, 999, 13), [CACHE_MEMORY]),
        (FIXED, ALL, (8, 100, 13), []),
        (FIXED, ALL, (9, 101, 13), [MAX_BATCH_SIZE, MAX_BATCH_TOKENS]),
        (STREAMING, (MAX_BATCH_SIZE,), (8, 100, 12), []),
        (STREAMING, (MAX_BATCH_SIZE,), (9, 100, 12), [MAX_BATCH_SIZE]),
        (
            STREAMING,
            ALL,
            (2, 50, 6),
            [MIN_BATCH_SIZE, BATCH_TIMEOUT, MAX_BATCH_TOKENS, CACHE_MEMORY],
        ),
    ],
)
def test_an_engine_refuses_what_it_cannot_do(
    ready: Ready, keys: tuple[str, ...], sizes: tuple[int, int, int], refused: list[str]
) -> None:
    max_batch_size, max_batch_tokens, memory_mb = sizes
    sharing = Sharing(
        batcher=BatcherSpec(max_batch_size=max_batch_size, max_batch_tokens=max_batch_tokens),
        cache=CacheSpec(),
        max_kv_bytes=memory_mb * MIB,
    )

    told = dict(find_refusals(keys, sharing, SPEC, ready))

    assert list(told) == refused
    assert all("stout" in why or "of m takes" in why for why in told.values())


def test_memory_is_refused_with_what_is_needed() -> None:
    sharing = Sharing(batcher=SPEC.batcher, cache=CacheSpec(), max_kv_bytes=MIB)

    [(_, why)] = find_refusals(ALL, sharing, SPEC, RESIZABLE)

    assert why == "must be 0 or at least 4, which one sequence of 64 tokens of m takes"


def test_an_embedding_model_has_no_cache_to_refuse() -> None:
    spec = msgspec.structs.replace(SPEC, task="embed")
    sharing = Sharing(batcher=SPEC.batcher, cache=CacheSpec(), max_kv_bytes=1)

    assert not list(find_refusals(ALL, sharing, spec, RIGID))

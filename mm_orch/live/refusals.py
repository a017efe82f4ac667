"""What a running engine cannot change: a pure decision from what it said of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mm_orch.core.errors import EngineStartError
from mm_orch.live.decision import (
    BATCH_TIMEOUT,
    CACHE_MEMORY,
    MAX_BATCH_SIZE,
    MAX_BATCH_TOKENS,
    MIN_BATCH_SIZE,
)
from mm_orch.optimization.engines.contract import count_kv_blocks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from mm_orch.optimization.engines.contract import EngineFacts
    from mm_orch.workers.messages import Ready, Sharing, WorkerSpec

_OWN_KEYS = (MIN_BATCH_SIZE, BATCH_TIMEOUT, MAX_BATCH_TOKENS, CACHE_MEMORY)
_RESTART = "set it in the file and restart the server"


def find_refusals(
    keys: Collection[str], sharing: Sharing, spec: WorkerSpec, ready: Ready
) -> Iterator[tuple[str, str]]:
    """Yield the keys that one worker cannot change, each with why, to follow its value.

    Args:
        keys: that are to change.
        sharing: what is wanted.
        spec: with which the worker was started.
        ready: what it said when it had.
    """
    if spec.task == "embed":
        return
    who = f"{spec.engine}, which runs {spec.engine_spec.model},"
    if ready.batches_itself:
        for key in keys:
            if key in _OWN_KEYS:
                yield key, f"cannot be changed while {who} has it in its own hands; {_RESTART}"
    else:
        yield from _find_memory_refusal(keys, sharing, spec, ready)
    if ready.batches_itself or ready.facts.has_fixed_steps:
        yield from _find_step_refusals(keys, sharing, spec, who)


def _find_step_refusals(
    keys: Collection[str], sharing: Sharing, spec: WorkerSpec, who: str
) -> Iterator[tuple[str, str]]:
    started, batcher = spec.engine_spec, sharing.batcher
    bounds = {
        MAX_BATCH_SIZE: (batcher.max_batch_size, started.max_batch_size),
        MAX_BATCH_TOKENS: (batcher.max_batch_tokens, started.max_batch_tokens),
    }
    for key, (wanted, most) in bounds.items():
        if key in keys and wanted > most:
            yield key, f"must be at most {most}, for which {who} was started; for more {_RESTART}"


def _find_memory_refusal(
    keys: Collection[str], sharing: Sharing, spec: WorkerSpec, ready: Ready
) -> Iterator[tuple[str, str]]:
    if CACHE_MEMORY not in keys:
        return
    facts, started = ready.facts, spec.engine_spec
    wanted = msgspec.structs.replace(started, max_kv_bytes=sharing.max_kv_bytes)
    needed = facts.kv_block_bytes * -(-started.context_length // facts.kv_block_tokens)
    try:
        num_blocks = count_kv_blocks(
            wanted, block_tokens=facts.kv_block_tokens, block_bytes=facts.kv_block_bytes
        )
    except EngineStartError:
        yield (
            CACHE_MEMORY,
            (
                f"must be 0 or at least {-(-needed >> 20)}, which one sequence of"
                f" {started.context_length} tokens of {started.model} takes"
            ),
        )
        return
    is_back = started.max_kv_bytes and wanted.max_kv_bytes <= started.max_kv_bytes
    if not ready.is_resizable and not is_back and num_blocks > facts.num_kv_blocks:
        yield (
            CACHE_MEMORY,
            (
                f"must be at most {_taken_mb(facts)}, which {spec.engine} took for {started.model}"
                f" when it started and cannot add to; for more {_RESTART}"
            ),
        )


def _taken_mb(facts: EngineFacts) -> int:
    return facts.num_kv_blocks * facts.kv_block_bytes >> 20

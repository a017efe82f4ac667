"""How much memory a worker's keys and values may take, and how much they do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mm_orch.workers.worker import Worker


@dataclass(frozen=True, slots=True)
class KVBytes:
    """Memory for keys and values; None where the engine does not say.

    Attributes:
        target: the bound.
        actual: what they take or may take: more than the bound until a lower one has had its
            effect.
    """

    target: int | None
    actual: int | None


def find_kv_bytes(worker: Worker) -> KVBytes:
    """Return what a worker that is ready has said last."""
    facts, cache = worker.facts, worker.cache
    # Before its first step it has told of no cache.
    num_target = cache.num_target_blocks if cache else facts.num_kv_blocks
    num_actual = cache.num_allocated_blocks if cache else facts.num_kv_blocks
    block_bytes = facts.kv_block_bytes
    return KVBytes(num_target * block_bytes or None, num_actual * block_bytes or None)

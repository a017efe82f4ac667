"""What models are told of the configuration's batcher and cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.batching.batcher import BatcherSpec
from mm_orch.workers.messages import CacheSpec, Sharing

if TYPE_CHECKING:
    from mm_orch.config import Config


def find_sharing(config: Config) -> Sharing:
    """Return how each model's sequences share its steps and its memory."""
    optimization = config.optimization
    batcher, cache = optimization.batcher, optimization.cache
    is_batched = optimization.enabled and batcher.enabled
    return Sharing(
        batcher=BatcherSpec(
            max_batch_size=batcher.max_batch_size if is_batched else 1,
            max_batch_tokens=batcher.max_batch_tokens,
            min_batch_size=batcher.min_batch_size if is_batched else 1,
            batch_timeout_s=batcher.batch_timeout_ms / 1000,
            is_adaptive=batcher.adaptive_batching,
        ),
        cache=CacheSpec(
            is_reusing=optimization.enabled and cache.enabled and cache.max_memory_mb > 0,
            policy=cache.eviction_policy,
        ),
        max_kv_bytes=cache.max_memory_mb << 20,
    )

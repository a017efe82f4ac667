"""The series of the KV caches: how much they save, how full they are, what they gave up."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from mm_orch.monitoring.sliding_rate import SlidingRate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import CollectorRegistry

    from mm_orch.core.clock import Clock
    from mm_orch.core.events import CacheUsed, RequestFinished

# Long enough to hold a few turns of a conversation.
_WINDOW_S = 300


class CacheSeries:
    """Every series, for each of these models from the start."""

    def __init__(self, registry: CollectorRegistry, models: Iterable[str], clock: Clock) -> None:
        self._hit_rate = Gauge(
            "kv_cache_hit_rate",
            "Share of prompt tokens that needed no computing, over the last five minutes.",
            ("model",),
            registry=registry,
        )
        self._use_ratio = Gauge(
            "kv_cache_usage_ratio",
            "Share of the KV memory that running sequences use, 0 to 1.",
            ("model",),
            registry=registry,
        )
        self._evictions = Counter(
            "kv_cache_evictions_total",
            "KV blocks kept for reuse that were given up for new ones.",
            ("model",),
            registry=registry,
        )
        self._prompt_tokens = {name: SlidingRate(clock, _WINDOW_S) for name in models}
        self._cached_tokens = {name: SlidingRate(clock, _WINDOW_S) for name in models}
        for name in models:
            self._hit_rate.labels(name).set_function(partial(self._find_rate, name))
            self._use_ratio.labels(name)
            self._evictions.labels(name)

    def observe_use(self, event: CacheUsed, use_ratio: float) -> None:
        """Take what a worker's memory holds, and all of its configured model's workers together."""
        self._use_ratio.labels(event.model).set(use_ratio)
        if event.num_evictions:
            self._evictions.labels(event.model).inc(event.num_evictions)

    def observe_end(self, event: RequestFinished) -> None:
        """Take the prompt tokens of a request that reached an engine; of a configured model."""
        self._prompt_tokens[event.model].add(event.num_prompt_tokens)
        self._cached_tokens[event.model].add(event.num_cached_tokens)

    def _find_rate(self, model: str) -> float:
        num_tokens = self._prompt_tokens[model].total()
        return self._cached_tokens[model].total() / num_tokens if num_tokens else 0.0

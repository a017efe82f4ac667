"""Tells the observer what a worker's KV memory holds, whenever that has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.events import CacheUsed

if TYPE_CHECKING:
    from mm_orch.core.events import Observer
    from mm_orch.kv_cache.cache import CacheStats


# Less than this changes with each step, and nobody could tell it from nothing.
_LEAST_CHANGE = 0.005


class CacheNews:
    """Follows one worker; of its use, changes of half a percent and more are news."""

    def __init__(self, model: str, engine: str, observer: Observer, *, replica: int = 0) -> None:
        self._model = model
        self._replica = replica
        self._engine = engine
        self._observer = observer
        self._use_ratio: float | None = None
        self._num_evictions = 0

    def take(self, cache: CacheStats | None, kv_use_ratio: float | None = None) -> None:
        """Take what a report says: our own cache's figures, or an engine's own ratio, or none."""
        num_evictions = self._num_evictions
        if cache is not None:
            kv_use_ratio, num_evictions = cache.use_ratio, cache.num_evictions
        if kv_use_ratio is None:
            return
        num_new = num_evictions - self._num_evictions
        if not num_new and not self._is_news(kv_use_ratio):
            return
        self._use_ratio, self._num_evictions = kv_use_ratio, num_evictions
        self._observer.observe(
            CacheUsed(
                model=self._model,
                engine=self._engine,
                use_ratio=kv_use_ratio,
                num_evictions=num_new,
                replica=self._replica,
            )
        )

    def _is_news(self, use_ratio: float) -> bool:
        last = self._use_ratio
        if last is None or (use_ratio == 0) != (last == 0):
            return True
        return abs(use_ratio - last) >= _LEAST_CHANGE

    def forget(self) -> None:
        """Note that the worker has ended: its memory is free."""
        if self._use_ratio:
            self._use_ratio = 0.0
            self._observer.observe(
                CacheUsed(
                    model=self._model, engine=self._engine, use_ratio=0.0, replica=self._replica
                )
            )

"""Fits a model's KV memory to its bound while the model runs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from mm_orch.core.errors import EngineOutOfMemoryError
from mm_orch.optimization.engines.contract import ResizableBackend, count_kv_blocks

if TYPE_CHECKING:
    from mm_orch.kv_cache.cache import KVCache
    from mm_orch.optimization.engines.contract import EngineFacts, EngineSpec, StepBackend

logger = logging.getLogger(__name__)


class KVPool:
    """The blocks that the cache gives out, and the engine's memory behind them.

    A higher bound takes memory at once. A lower one holds at once for what is given out from then
    on; the memory itself is given back when no more blocks are in use, by engines that can.
    """

    def __init__(
        self, backend: StepBackend, facts: EngineFacts, spec: EngineSpec, cache: KVCache
    ) -> None:
        self._resizable = backend if isinstance(backend, ResizableBackend) else None
        self._facts = facts
        self._spec = spec
        self._cache = cache
        self.max_kv_bytes = spec.max_kv_bytes

    def count_blocks(self, max_kv_bytes: int) -> int:
        """Return the blocks that a bound allows.

        Raises:
            EngineStartError: they do not hold one sequence of full length.
        """
        if self._resizable is not None:
            return self._resizable.count_kv_blocks(max_kv_bytes)
        num_blocks = count_kv_blocks(
            msgspec.structs.replace(self._spec, max_kv_bytes=max_kv_bytes),
            block_tokens=self._facts.kv_block_tokens,
            block_bytes=self._facts.kv_block_bytes,
        )
        return min(num_blocks, self._facts.num_kv_blocks)

    def set_bound(self, max_kv_bytes: int, *, is_reusing: bool) -> None:
        """Bound the blocks from now on.

        Raises:
            EngineStartError: one sequence of full length would not fit; nothing has changed.
            EngineOutOfMemoryError: there is no memory for more blocks; nothing has changed.
        """
        num_blocks = self.count_blocks(max_kv_bytes)
        if num_blocks > self._cache.num_allocated_blocks:
            self._resize(num_blocks)
        self._cache.set_bound(num_blocks, is_reusing=is_reusing)
        self.max_kv_bytes = max_kv_bytes
        self.give_back()

    def give_back(self) -> bool:
        """Give back the memory of blocks over the bound, once no more are in use; tell if so."""
        is_over = self._cache.num_allocated_blocks > self._cache.num_blocks
        if self._resizable is None or not is_over:
            return False
        moves = self._cache.compact()
        if moves is None:
            return False
        self._resizable.move_kv(moves)
        self._shrink(self._cache.num_blocks)
        return True

    def _shrink(self, num_blocks: int) -> None:
        try:
            self._resize(num_blocks)
        except EngineOutOfMemoryError as error:
            # Copying takes some too. What is left over cannot be used any more.
            logger.warning("memory of KV blocks is not given back: %s", error)
            self._cache.num_allocated_blocks = num_blocks

    def _resize(self, num_blocks: int) -> None:
        if self._resizable is not None:
            self._resizable.resize_kv(num_blocks, num_kept=self._cache.num_touched)
            self._cache.num_allocated_blocks = num_blocks

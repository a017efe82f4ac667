"""Fetches models' files, each model's once at a time, for all who want them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mm_orch.core.threads import start_abandonable

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.models.stored import StoredModel


class ModelFiles:
    """The files of the configured models."""

    def __init__(self) -> None:
        self._fetching: dict[str, asyncio.Future[StoredModel]] = {}

    async def ensure(self, model: str, fetch: Callable[[], StoredModel]) -> StoredModel:
        """Return a model's files, fetching them first where they are missing.

        Args:
            model: its name.
            fetch: fetches what is missing; blocks.

        Raises:
            ModelStoreError: they cannot be had; the next call tries again.
        """
        fetching = self._fetching.get(model)
        # Only a fetch under way is shared: files that were there may have vanished since.
        if fetching is None or fetching.done():
            fetching = self._fetching[model] = start_abandonable(fetch, name=f"fetch {model}")
        return await asyncio.shield(fetching)

    def find_size_bytes(self, model: str) -> int:
        """Return the size of a model's files, the least that its weights take; 0 if unknown."""
        fetched = self._fetching.get(model)
        if fetched is None or not fetched.done() or fetched.cancelled() or fetched.exception():
            return 0
        return fetched.result().size_bytes

    def close(self) -> None:
        """Wait for nothing any more."""
        for fetching in self._fetching.values():
            fetching.cancel()

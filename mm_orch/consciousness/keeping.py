"""Keeps on disk what the mind remembers: soon after it has changed, never in a request's way."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from mm_orch.core.background import start_loop
from mm_orch.core.errors import OverloadError, StorageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mm_orch.storage.outcomes import Changes, OutcomeStore, Remembered

logger = logging.getLogger(__name__)

# What happens in it is stored together, and lost together where the process is killed.
_GATHER_S = 1.0
_RETRY_S = 5.0


class Remembering(Protocol):
    """Who has something to be kept.

    Attributes:
        has_changed: there is something.
        num_lost: what was too much to wait until it could be kept; set to 0 by who tells of it.
    """

    has_changed: asyncio.Event
    num_lost: int

    def restore(self, remembered: Remembered) -> None:
        """Take what was kept, before what has happened since."""

    def take_changes(self) -> Changes:
        """Return what is to be kept since the last time; ``has_changed`` is cleared."""

    def give_back(self, changes: Changes) -> None:
        """Take what could not be kept."""


class Keeper:
    """Reads what was kept, and writes what changes.

    While nothing can be read, nothing is written: what is on the disk is worth more than what has
    happened meanwhile.

    Args:
        mind: whose memory it is.
        store: of it.
        gather_s: seconds from a change until it is written.
        retry_s: seconds after a failure.
    """

    def __init__(
        self,
        mind: Remembering,
        store: OutcomeStore,
        *,
        gather_s: float = _GATHER_S,
        retry_s: float = _RETRY_S,
    ) -> None:
        self._mind = mind
        self._store = store
        self._gather_s = gather_s
        self._retry_s = retry_s
        self._is_loaded = False
        self._is_losing = False
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep what happens in the context; all of it is written when it is left."""
        await self._sync()
        task = start_loop(self._work(), "keep outcomes")
        try:
            yield
        finally:
            # What is being written is either stored or given back, and not both.
            async with self._lock:
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if self._mind.has_changed.is_set() and not await self._sync():
                logger.warning("the last outcomes are not stored: %s", self._store.failure)
                self._tell_lost()

    async def _work(self) -> None:
        while True:
            await self._mind.has_changed.wait()
            await asyncio.sleep(self._gather_s)
            if not await self._sync():
                await asyncio.sleep(self._retry_s)

    async def _sync(self) -> bool:
        """Read what was kept if that has not been done; write what has changed; say if it went."""
        async with self._lock:
            return await self._read_and_write()

    async def _read_and_write(self) -> bool:
        changes: Changes | None = None
        try:
            if not self._is_loaded:
                self._mind.restore(await self._store.load())
                self._is_loaded = True
            if self._mind.has_changed.is_set():
                changes = self._mind.take_changes()
                await self._store.keep(changes)
        except (StorageError, OverloadError):
            # The store says why, in the log and in the report.
            if changes is not None:
                self._mind.give_back(changes)
            if self._mind.num_lost and not self._is_losing:
                logger.warning("outcomes and scores are lost while none can be stored")
                self._is_losing = True
            return False
        self._tell_lost()
        return True

    def _tell_lost(self) -> None:
        if self._mind.num_lost:
            logger.warning("%d outcomes and scores were lost", self._mind.num_lost)
        self._mind.num_lost, self._is_losing = 0, False

"""Adds what callers use of this server to what they use of others that share its database."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import msgspec

from mm_orch.core.background import start_loop
from mm_orch.core.errors import OverloadError, StorageError
from mm_orch.core.observations import CallerUsage
from mm_orch.orchestration.usage import make_report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from mm_orch.core.observations import UsageReport
    from mm_orch.orchestration.usage import UsageBook
    from mm_orch.storage.shared_state import SharedState

logger = logging.getLogger(__name__)

# What a killed server has not told the others of yet is lost.
_SHARE_S = 2.0


class UsageReports(Protocol):
    """Says what callers have used."""

    async def report(self) -> UsageReport:
        """Return it, in order of the callers' names; may raise StorageError, OverloadError."""


class UsageStore(Protocol):
    """Keeps counts by caller, of several servers."""

    async def add(self, used: Sequence[CallerUsage], *, since_s: float) -> None:
        """Add what callers have used, all or nothing."""

    async def read(self) -> tuple[float | None, tuple[CallerUsage, ...]]:
        """Return since when, seconds since 1970, and what every caller has used since."""


class SharedUsageBook:
    """Tells what callers have used of all servers.

    Args:
        book: counts what they use of this one.
        store: of all.
    """

    def __init__(self, book: UsageBook, store: UsageStore) -> None:
        self._book = book
        self._store = store
        self._told: dict[str, CallerUsage] = {}
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Share what is used in the context; all of it is shared when it is left."""
        task = start_loop(self._work(), "share usage")
        try:
            yield
        finally:
            # What is being written is counted as told, or not, and not both.
            async with self._lock:
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._try_to_share()

    async def report(self) -> UsageReport:
        """Return what every caller has used of all servers.

        Raises:
            StorageError, OverloadError: the database cannot be read or written.
        """
        await self._share()
        since_s, used = await self._store.read()
        return make_report(self._book.since_s if since_s is None else since_s, used)

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(_SHARE_S)
            await self._try_to_share()

    async def _try_to_share(self) -> None:
        try:
            await self._share()
        except (StorageError, OverloadError) as error:
            # The database has noted it; what was used is added the next time.
            logger.debug("usage is not shared now: %s", error)

    async def _share(self) -> None:
        async with self._lock:
            used = {one.name: one for one in self._book.count()}
            new = [
                _difference(one, self._told.get(name))
                for name, one in used.items()
                if one != self._told.get(name)
            ]
            if new:
                await self._store.add(new, since_s=self._book.since_s)
            self._told = used


@asynccontextmanager
async def open_usage(book: UsageBook, shared: SharedState | None) -> AsyncIterator[UsageReports]:
    """Give what tells of usage: of all servers where they share a database, else of this one."""
    if shared is None:
        yield book
        return
    sharing = SharedUsageBook(book, shared.usage)
    async with sharing.running():
        yield sharing


def _difference(now: CallerUsage, before: CallerUsage | None) -> CallerUsage:
    if before is None:
        return now
    counts, known = msgspec.structs.asdict(now), msgspec.structs.asdict(before)
    name = counts.pop("name")
    return CallerUsage(name=name, **{one: value - known[one] for one, value in counts.items()})

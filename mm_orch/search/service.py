"""Finds and reads pages for workflows: a provider, and what fetches and reads what it names."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

from mm_orch.core.errors import SearchError
from mm_orch.search.extraction import Extractor
from mm_orch.search.provider import RECORDED, make_provider

if TYPE_CHECKING:
    from mm_orch.search.fetching import PageFetcher
    from mm_orch.search.page import Document, Found, Hit
    from mm_orch.search.provider import SearchProvider
    from mm_orch.search.settings import SearchSettings


_SPARE = 2


class Search:
    """One for all runs. Nothing is imported or read before the first search.

    Args:
        settings: from the configuration.
        fetcher: of pages; None for one of the settings' limits.
    """

    def __init__(self, settings: SearchSettings, fetcher: PageFetcher | None = None) -> None:
        self.max_pages = settings.max_pages
        self._settings = settings
        self._fetcher = fetcher
        self._extractor = Extractor()
        self._provider_by_name: dict[str, SearchProvider] = {}
        self._lock = asyncio.Lock()

    @property
    def obstacle(self) -> str | None:
        """Why questions of the day are not to be sent here unasked, or None."""
        settings = self._settings
        if settings.provider == RECORDED and settings.corpus is None:
            return "workflows.search names neither a provider nor a corpus of its own"
        return None

    async def find(self, query: str) -> Found:
        """Return the pages that may answer a query, best first.

        Where the web cannot be searched and a corpus of the operator's own is configured, that one
        is; then ``failure`` says so.

        Raises:
            SearchError: it cannot be searched now, and there is no such corpus.
        """
        line = " ".join(query.split())
        name = self._settings.provider
        try:
            return await self._search(name, line)
        except SearchError as error:
            if name == RECORDED or self._settings.corpus is None:
                raise
            found = await self._search(RECORDED, line)
            return dataclasses.replace(found, failure=error)

    async def read(self, hit: Hit) -> Document:
        """Return the text of a page that was found.

        Raises:
            PageError: it may not be fetched, cannot be, or has no text.
        """
        page = hit.page
        if page is None:
            page = await (await self._ensure_fetcher()).fetch(hit.url)
        document = await self._extractor.extract(page)
        return document if document.title else dataclasses.replace(document, title=hit.title)

    async def _search(self, name: str, query: str) -> Found:
        provider = await self._ensure_provider(name)
        # Of what is found on the web, not everything can be read.
        return await provider.search(query, limit=_SPARE * self.max_pages)

    async def _ensure_provider(self, name: str) -> SearchProvider:
        async with self._lock:
            if name not in self._provider_by_name:
                self._provider_by_name[name] = await asyncio.to_thread(
                    make_provider, self._settings, name
                )
            return self._provider_by_name[name]

    async def _ensure_fetcher(self) -> PageFetcher:
        if self._fetcher is None:
            self._fetcher = await asyncio.to_thread(_make_fetcher, self._settings)
        return self._fetcher


def _make_fetcher(settings: SearchSettings) -> PageFetcher:
    # Whoever fetches no page does not wait for a client of HTTP to be imported.
    from mm_orch.search.fetching import PageFetcher

    return PageFetcher(settings.limits)

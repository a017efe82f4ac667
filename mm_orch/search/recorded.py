"""Searches pages that were recorded before, without any network."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import TYPE_CHECKING

from mm_orch.search.corpus_file import read_pages
from mm_orch.search.errors import PageError
from mm_orch.search.extraction import Extractor
from mm_orch.search.page import HTML_TYPES, Found, Hit, RawPage
from mm_orch.search.ranking import Ranking
from mm_orch.search.settings import BUILT_IN_CORPUS, SearchSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

# Of what a query's words weigh: a page with less is there for a word that it has by chance.
_MIN_SHARE = 0.3
_SNIPPET_CHARS = 200


class RecordedProvider:
    """Implements search.provider.SearchProvider.

    The pages are read with the first search, and once. Those of HTML have their text taken out
    then, so that they are found by what they say.

    Args:
        settings: name the corpus.
    """

    def __init__(self, settings: SearchSettings) -> None:
        self._place = settings.corpus or BUILT_IN_CORPUS
        self._is_built_in = settings.corpus is None
        self._extractor = Extractor()
        self._loading: asyncio.Task[tuple[list[RawPage], Ranking]] | None = None

    async def search(self, query: str, *, limit: int) -> Found:
        """See SearchProvider."""
        pages, ranking = await self._find_loaded()
        ranked = [one for one in ranking.rank(query) if one.share >= _MIN_SHARE]
        hits = tuple(_as_hit(pages[one.index]) for one in ranked[:limit])
        return Found(hits=hits, notice=self._notice(pages))

    def _notice(self, pages: Sequence[RawPage]) -> str:
        which = "that is built in" if self._is_built_in else self._place.name
        days = sorted(page.fetched_at.date().isoformat() for page in pages)
        when = f", the newest of {days[-1]}" if days else ""
        return (
            f"The web was not searched: this comes from the recorded corpus {which}"
            f" ({len(pages)} pages{when})."
        )

    async def _find_loaded(self) -> tuple[list[RawPage], Ranking]:
        loading = self._loading
        if loading is None or (loading.done() and loading.exception() is not None):
            # It outlives the search that began it, whose time may be shorter than reading takes.
            self._loading = loading = asyncio.create_task(
                self._load(), name="load the recorded pages", context=contextvars.Context()
            )
        return await asyncio.shield(loading)

    async def _load(self) -> tuple[list[RawPage], Ranking]:
        raw = await asyncio.to_thread(read_pages, self._place)
        pages = [await self._take_text(page) for page in raw]
        return pages, await asyncio.to_thread(Ranking, [_searchable(page) for page in pages])

    async def _take_text(self, page: RawPage) -> RawPage:
        if page.content_type not in HTML_TYPES:
            return page
        try:
            document = await self._extractor.extract(page)
        except PageError as error:
            # Found by its title alone, and whoever wants to read it is told the same.
            logger.warning("%s", error)
            return page
        return RawPage(
            url=page.url,
            title=page.title or document.title,
            content_type="text/plain",
            text=document.text,
            fetched_at=page.fetched_at,
        )


def _searchable(page: RawPage) -> str:
    return page.title if page.content_type in HTML_TYPES else f"{page.title}\n{page.text}"


def _as_hit(page: RawPage) -> Hit:
    return Hit(url=page.url, title=page.title, snippet=page.text[:_SNIPPET_CHARS], page=page)

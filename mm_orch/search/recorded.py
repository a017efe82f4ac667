"""Searches pages that were recorded before, without any network."""

from __future__ import annotations

import asyncio
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
        self._lock = asyncio.Lock()
        self._loaded: tuple[list[RawPage], Ranking] | None = None

    async def search(self, query: str, *, limit: int) -> Found:
        """See SearchProvider."""
        pages, ranking = await self._load()
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

    async def _load(self) -> tuple[list[RawPage], Ranking]:
        async with self._lock:
            if self._loaded is None:
                raw = await asyncio.to_thread(read_pages, self._place)
                pages = [await _take_text(page) for page in raw]
                ranking = await asyncio.to_thread(Ranking, [_searchable(page) for page in pages])
                self._loaded = pages, ranking
            return self._loaded


async def _take_text(page: RawPage) -> RawPage:
    if page.content_type not in HTML_TYPES:
        return page
    try:
        document = await Extractor().extract(page)
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

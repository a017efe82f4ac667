"""Takes the text out of a page, in threads that are few and are not waited for without end."""

from __future__ import annotations

import asyncio
import html
import importlib.util
import re

from mm_orch.core.threads import start_abandonable
from mm_orch.search.errors import PageError
from mm_orch.search.page import HTML_TYPES, Document, RawPage

MAX_TEXT_CHARS = 100_000
_MAX_TITLE_CHARS = 200
_MAX_SECONDS = 15.0
# More would only take the processor from one another.
_MAX_RUNNING = 2
_SPACE = re.compile(r"\s+")
_TITLE = re.compile(r"<title[^>]{0,200}>([^<]{1,1000})", re.IGNORECASE)
REMEDY = "Install what reads them: pip install 'muai-orchestration[search]'."


class Extractor:
    """Makes documents of pages.

    A thread cannot be ended from outside. One that takes too long is left to itself, and keeps its
    place until it has ended: whatever pages there are, no more than two threads run.

    Args:
        timeout_s: for one page, the wait for a place among it.
    """

    def __init__(self, timeout_s: float = _MAX_SECONDS) -> None:
        self._timeout_s = timeout_s
        self._places = asyncio.Semaphore(_MAX_RUNNING)

    async def extract(self, page: RawPage) -> Document:
        """Return the text of a page, at most 100 000 characters of it.

        Raises:
            PageError: there is none, it takes too long, or what reads HTML is not installed.
        """
        if page.content_type not in HTML_TYPES:
            return _as_document(page, page.title, page.text)
        if importlib.util.find_spec("trafilatura") is None:
            raise PageError(page.url, "trafilatura is not installed", remedy=REMEDY)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._places.acquire()
                try:
                    work = start_abandonable(lambda: _read_html(page), name="read a page")
                except BaseException:
                    # No thread has begun that would give the place back at its end.
                    self._places.release()
                    raise
                work.add_done_callback(self._note_end)
                title, text = await asyncio.shield(work)
        except TimeoutError:
            raise PageError(
                page.url, f"its text was not found within {self._timeout_s:g} s"
            ) from None
        return _as_document(page, title, text)

    def _note_end(self, work: asyncio.Future[tuple[str, str]]) -> None:
        self._places.release()
        if not work.cancelled():
            # Whoever waited may have gone: then nobody else asks for it.
            work.exception()


def _read_html(page: RawPage) -> tuple[str, str]:
    """Return title and text; empty ones where there are none."""
    from trafilatura import bare_extraction

    try:
        found = bare_extraction(
            page.text, url=page.url, include_comments=False, include_tables=True
        )
    except Exception as error:  # its library raises nothing more special for a page of any kind
        raise PageError(page.url, f"its HTML cannot be read: {type(error).__name__}") from error
    title = _TITLE.search(page.text)
    text = "" if found is None or isinstance(found, dict) else found.text or ""
    return html.unescape(title.group(1)) if title else "", text


def _as_document(page: RawPage, title: str, text: str) -> Document:
    if not text.strip():
        raise PageError(page.url, "it has no text")
    return Document(
        url=page.url,
        title=_SPACE.sub(" ", title or page.title).strip()[:_MAX_TITLE_CHARS],
        text=text[:MAX_TEXT_CHARS],
        fetched_at=page.fetched_at,
    )

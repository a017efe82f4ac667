"""What goes wrong with one page, in one sentence that names it."""

from __future__ import annotations

from mm_orch.core.errors import SearchError

_MAX_SHOWN_CHARS = 120


class PageError(SearchError):
    """A page cannot be read.

    Args:
        url: of the page.
        reason: a clause, which follows the URL.
        remedy: what the reader can do, or None.
    """

    code = "page_unreadable"

    def __init__(self, url: str, reason: str, *, remedy: str | None = None) -> None:
        shown = url if len(url) <= _MAX_SHOWN_CHARS else url[:_MAX_SHOWN_CHARS] + "..."
        printable = shown.encode("unicode_escape").decode() if not shown.isprintable() else shown
        super().__init__(f"{printable} cannot be read: {reason}.", remedy=remedy)
        self.url = url

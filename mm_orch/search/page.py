"""What is found, and what is read: hits of a search, raw pages, and documents of plain text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datetime as dt

    from mm_orch.core.errors import SearchError

HTML_TYPES = ("text/html", "application/xhtml+xml")
TEXT_TYPES = (*HTML_TYPES, "text/plain")
"""What can be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawPage:
    """A page as it was sent.

    Attributes:
        url: where it was found in the end, after every redirect.
        content_type: in small letters, without parameters.
        text: decoded.
        fetched_at: when.
        title: where it is known without reading the text.
    """

    url: str
    content_type: str
    text: str
    fetched_at: dt.datetime
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A page that may have the answer, best first.

    Attributes:
        snippet: what the search shows of it; may be empty.
        page: the page itself, where who has found it has it; None for one that is to be fetched.
    """

    url: str
    title: str
    snippet: str = ""
    page: RawPage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The text of a page, without what stands around it."""

    url: str
    title: str
    text: str
    fetched_at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search has found.

    Attributes:
        hits: best first.
        notice: where the pages come from, if that is not the web of this moment; a sentence.
        failure: why it was not the web, where that was wanted.
    """

    hits: tuple[Hit, ...]
    notice: str = ""
    failure: SearchError | None = None

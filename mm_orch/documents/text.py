"""A file's text as everything after its reading sees it, and what may be read."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal

MediaType = Literal["text/plain", "text/markdown", "application/pdf"]

MAX_TEXT_CHARS = 4 * 2**20
"""Of one file's text."""


@dataclass(frozen=True, slots=True)
class FileText:
    """What a file says.

    Attributes:
        text: with line feeds alone at the ends of lines, whatever the file has.
        media_type: of the file.
        page_starts: where each page begins in the text; empty where the file has no pages.
    """

    text: str
    media_type: MediaType
    page_starts: tuple[int, ...] = ()

    def page_at(self, place: int) -> int | None:
        """Return the page of a place in the text, from 1; None where there are no pages."""
        return bisect_right(self.page_starts, place) or None

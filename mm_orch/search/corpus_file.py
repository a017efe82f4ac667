"""Recorded pages on disk: JSON lines, a page a line."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import msgspec

from mm_orch.core.errors import SearchError, clause
from mm_orch.search.page import TEXT_TYPES, RawPage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_PAGES = 20_000
_MAX_FILE_BYTES = 256 * 2**20
_SUFFIX = ".jsonl"
_FORM = 'one {"url", "title", "fetched_at", "content_type", "text"} a line'


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str
    title: str
    fetched_at: dt.datetime
    text: str
    content_type: str = "text/plain"


def read_pages(place: Path) -> list[RawPage]:
    """Return the pages of a file, or of all files of a folder in the order of their names.

    Raises:
        SearchError: a file cannot be read, is too large, or has a line that is no page.
    """
    pages: list[RawPage] = []
    files = sorted(place.glob(f"*{_SUFFIX}")) if place.is_dir() else [place]
    if not files:
        raise SearchError(f"The corpus {place} has no file whose name ends in {_SUFFIX}.")
    for file in files:
        for page in _read_file(file):
            if len(pages) == MAX_PAGES:
                raise SearchError(f"The corpus {place} has more than {MAX_PAGES} pages.")
            pages.append(page)
    return pages


def make_line(page: RawPage) -> bytes:
    """Return a page as a line of a corpus, its end included."""
    line = _Line(
        url=page.url,
        title=page.title,
        fetched_at=page.fetched_at,
        content_type=page.content_type,
        text=page.text,
    )
    return msgspec.json.encode(line) + b"\n"


def _read_file(file: Path) -> Iterator[RawPage]:
    try:
        num_bytes = file.stat().st_size
        if num_bytes > _MAX_FILE_BYTES:
            raise SearchError(
                f"The corpus file {file} has {num_bytes} bytes; at most {_MAX_FILE_BYTES} are read."
            )
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _read_line(line, f"Line {number} of {file}")
    except OSError as error:
        raise SearchError(
            f"The corpus file {file} cannot be read: {clause(error)}.",
            remedy="workflows.search.corpus names it.",
        ) from error


def _read_line(line: bytes, place: str) -> RawPage:
    try:
        read = msgspec.json.decode(line, type=_Line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SearchError(
            f"{place} is no page: {clause(error)}.", remedy=f"Write {_FORM}."
        ) from error
    if read.content_type not in TEXT_TYPES:
        raise SearchError(
            f"{place} has content_type {read.content_type!r}; allowed: {', '.join(TEXT_TYPES)}."
        )
    moment = read.fetched_at
    return RawPage(
        url=read.url,
        title=read.title,
        content_type=read.content_type,
        text=read.text,
        fetched_at=moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC),
    )

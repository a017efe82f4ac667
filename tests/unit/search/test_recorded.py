"""Pages on disk: how they are written, what is wrong with them, what is found in them."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import SearchError
from mm_orch.search.corpus_file import make_line, read_pages
from mm_orch.search.page import RawPage
from mm_orch.search.recorded import RecordedProvider
from mm_orch.search.settings import BUILT_IN_CORPUS, SearchSettings

if TYPE_CHECKING:
    from pathlib import Path

MOMENT = dt.datetime(2026, 11, 27, 9, tzinfo=dt.UTC)
OTTERS = RawPage(
    url="https://a.example/otters",
    content_type="text/plain",
    text="Otters eat trout.",
    fetched_at=MOMENT,
    title="Otters",
)
HERONS = RawPage(
    url="https://a.example/herons",
    content_type="text/html",
    text="<html><head><title>H</title></head><body><p>Herons eat frogs in the reeds.</p></body>",
    fetched_at=MOMENT,
    title="Herons",
)


def write(place: Path, *pages: RawPage) -> Path:
    place.write_bytes(b"".join(make_line(page) for page in pages))
    return place


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    assert read_pages(write(tmp_path / "a.jsonl", OTTERS, HERONS)) == [OTTERS, HERONS]


def test_of_a_folder_all_files_of_pages_are_read_in_the_order_of_their_names(
    tmp_path: Path,
) -> None:
    write(tmp_path / "b.jsonl", HERONS)
    write(tmp_path / "a.jsonl", OTTERS)
    (tmp_path / "LICENSE").write_text("no page")

    assert read_pages(tmp_path) == [OTTERS, HERONS]


LINE = json.loads(make_line(OTTERS))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("no JSON", r"Line 2 of .*a\.jsonl is no page"),
        ("[]", "is no page"),
        (json.dumps({**LINE, "url": 1}), "is no page"),
        (json.dumps({key: value for key, value in LINE.items() if key != "text"}), "text"),
        (json.dumps({**LINE, "other": 1}), "other"),
        (json.dumps({**LINE, "fetched_at": "yesterday"}), "is no page"),
        (json.dumps({**LINE, "content_type": "image/png"}), "image/png"),
    ],
)
def test_a_line_that_is_no_page_is_named_with_the_reason(
    tmp_path: Path, line: str, why: str
) -> None:
    place = write(tmp_path / "a.jsonl", OTTERS)
    place.write_text(place.read_text() + line + "\n")

    with pytest.raises(SearchError, match=why):
        read_pages(place)


def test_a_corpus_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r"no\.jsonl cannot be read"):
        read_pages(tmp_path / "no.jsonl")
    with pytest.raises(SearchError, match=r"no file whose name ends in \.jsonl"):
        read_pages(tmp_path)


async def test_pages_are_found_by_the_words_of_their_text_and_title(tmp_path: Path) -> None:
    provider = RecordedProvider(
        SearchSettings(corpus=write(tmp_path / "birds.jsonl", OTTERS, HERONS))
    )

    otters = await provider.search("What do otters eat?", limit=5)
    herons = await provider.search("frogs in reeds", limit=5)

    assert [hit.url for hit in otters.hits] == [OTTERS.url, HERONS.url]
    [hit] = herons.hits
    # Its text was taken out of the HTML.
    assert hit.page is not None
    assert (hit.page.text, hit.title) == ("Herons eat frogs in the reeds.", "Herons")
    assert otters.notice == (
        "The web was not searched: this comes from the recorded corpus birds.jsonl (2 pages, the"
        " newest of 2026-11-27)."
    )
    assert len((await provider.search("eat", limit=1)).hits) == 1


async def test_nothing_is_found_for_what_no_page_is_about() -> None:
    found = await RecordedProvider(SearchSettings()).search("Who won the 1998 cup?", limit=5)

    assert found.hits == ()
    assert "that is built in" in found.notice


async def test_a_corpus_that_could_not_be_read_is_read_when_it_is_repaired(tmp_path: Path) -> None:
    place = tmp_path / "a.jsonl"
    provider = RecordedProvider(SearchSettings(corpus=place))
    with pytest.raises(SearchError):
        await provider.search("otters", limit=1)
    write(place, OTTERS)

    assert (await provider.search("otters", limit=1)).hits


def test_the_corpus_that_is_built_in_has_pages_of_distinct_places_that_stand_for_nobodys() -> None:
    pages = read_pages(BUILT_IN_CORPUS)

    assert len({page.url for page in pages}) == len(pages) > 30
    assert all(page.url.startswith("https://pages.example/") for page in pages)

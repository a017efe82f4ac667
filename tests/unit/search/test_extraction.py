"""The text of pages: of HTML what a reader reads, of text all of it; whatever the page holds."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib.util
import threading

import pytest

from mm_orch.search import extraction
from mm_orch.search.errors import PageError
from mm_orch.search.extraction import MAX_TEXT_CHARS, Extractor
from mm_orch.search.page import Document, RawPage

MOMENT = dt.datetime(2026, 11, 27, tzinfo=dt.UTC)
ARTICLE = """<html><head><title>Otters &amp; Lake
 Vell</title><script>var secret = 1</script></head><body><nav><a href="/">Home</a> About</nav>
<article><h1>Otters</h1><p>The otter of Lake Vell eats trout. It weighs 9 kilograms and lives in the
reeds near the northern shore of the lake.</p><p>In 2019 the survey counted 412 otters, which is
more than ever before.</p></article><footer>Imprint</footer></body></html>"""
HOSTILE = {
    "deep": "<div>" * 20_000 + "text",
    "angles": "<" * 50_000,
    "attributes": "<p " + "a=b " * 20_000 + ">text</p>",
    "table": "<table>" * 3000,
    "entities": "&amp;" * 50_000,
    "nothing": "",
    "spaces": "  \n ",
    "nulls": "<p>\0\0</p>",
    "surrogate": "<p>\ud800</p>",
    "declaration": "<?xml version='1.0' encoding='utf-16'?><!DOCTYPE a"
    " [<!ENTITY b 'c'>]><p>&b;</p>",
}


def page_of(text: str, kind: str = "text/html", title: str = "") -> RawPage:
    return RawPage(
        url="https://a.example/", content_type=kind, text=text, fetched_at=MOMENT, title=title
    )


async def test_of_html_the_text_is_taken_without_what_stands_around_it() -> None:
    document = await Extractor().extract(page_of(ARTICLE))

    assert document.title == "Otters & Lake Vell"
    assert "weighs 9 kilograms" in document.text
    assert "412 otters" in document.text
    for left_out in ("Home", "Imprint", "secret", "<p>"):
        assert left_out not in document.text
    assert (document.url, document.fetched_at) == ("https://a.example/", MOMENT)


async def test_plain_text_stays_as_it_is() -> None:
    document = await Extractor().extract(page_of("a < b\n<p>", "text/plain", "A title"))

    assert (document.text, document.title) == ("a < b\n<p>", "A title")


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_page_of_any_kind_has_text_or_is_told_to_have_none(name: str) -> None:
    [found] = await asyncio.gather(
        Extractor().extract(page_of(HOSTILE[name])), return_exceptions=True
    )

    if isinstance(found, Document):
        assert found.text.strip()
    else:
        assert isinstance(found, PageError)


async def test_a_long_text_is_cut() -> None:
    document = await Extractor().extract(page_of("word " * MAX_TEXT_CHARS, "text/plain"))

    assert len(document.text) == MAX_TEXT_CHARS


async def test_without_its_library_it_is_said_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, package=None: None if name == "trafilatura" else find(name, package),
    )

    with pytest.raises(PageError, match=r"pip install 'muai-orchestration\[search\]'"):
        await Extractor().extract(page_of(ARTICLE))
    # Text needs no library.
    assert (await Extractor().extract(page_of("text", "text/plain"))).text == "text"


async def test_threads_that_do_not_end_are_left_alone_and_never_more_than_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_end, has_ended = threading.Event(), threading.Semaphore(0)
    begun: list[str] = []

    def hang(page: RawPage) -> tuple[str, str]:
        begun.append(page.url)
        may_end.wait()
        has_ended.release()
        return "title", "text"

    monkeypatch.setattr(extraction, "_read_html", hang)
    extractor = Extractor(timeout_s=0.1)

    tried = await asyncio.gather(
        *(extractor.extract(page_of(ARTICLE)) for _ in range(4)), return_exceptions=True
    )

    assert all(isinstance(one, PageError) and "within 0.1 s" in str(one) for one in tried)
    assert len(begun) == 2
    may_end.set()
    for _ in range(2):
        await asyncio.to_thread(has_ended.acquire)
    # Their places are free again.
    assert (await extractor.extract(page_of(ARTICLE))).text == "text"


async def test_a_thread_that_cannot_begin_gives_its_place_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(extraction, "start_abandonable", refuse)
    extractor = Extractor(timeout_s=5)

    for _ in range(3):
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await extractor.extract(page_of(ARTICLE))

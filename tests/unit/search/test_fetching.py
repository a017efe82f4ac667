"""Pages fetched from a real server on this machine, by names that a test resolves."""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
from typing import TYPE_CHECKING

import pytest

from mm_orch.search.errors import PageError
from mm_orch.search.fetching import PageFetcher, decode
from mm_orch.search.limits import FetchLimits
from tests.page_server import Names, PageServer, redirect, respond, serve_pages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE = "127.0.0.1"
SITE = "site.example"
PAGE = b"<p>Hello</p>"
MOMENT = dt.datetime(2026, 11, 27, tzinfo=dt.UTC)


@pytest.fixture
async def pages() -> AsyncIterator[PageServer]:
    async with serve_pages({"/": respond(PAGE)}) as server:
        yield server


def make_fetcher(
    pages: PageServer,
    names: Names | None = None,
    *,
    allowed: tuple[str, ...] = (SITE,),
    **limits: int,
) -> PageFetcher:
    return PageFetcher(
        FetchLimits(allowed_ports=(pages.port,), allowed_private_hosts=allowed, **limits),
        resolve=names or Names({SITE: [[HERE]], "inside.example": [[HERE]]}),
        now=lambda: MOMENT,
    )


async def assert_refused(fetcher: PageFetcher, url: str, why: str) -> None:
    with pytest.raises(PageError, match=why):
        await fetcher.fetch(url)


async def test_a_page_is_fetched_with_its_text_its_kind_and_the_moment(pages: PageServer) -> None:
    url = pages.url(SITE)

    page = await make_fetcher(pages).fetch(url)

    assert (page.url, page.text, page.content_type) == (url, "<p>Hello</p>", "text/html")
    assert page.fetched_at == MOMENT
    [head] = pages.requests
    assert f"host: {SITE}:{pages.port}" in head
    assert "accept-encoding: gzip\r\n" in head
    assert "cookie" not in head


@pytest.mark.parametrize("host", ["inside.example", HERE, "[::1]", "[::ffff:127.0.0.1]"])
async def test_a_host_that_is_not_public_is_never_connected_to(
    pages: PageServer, host: str
) -> None:
    await assert_refused(make_fetcher(pages), pages.url(host), "which is refused")

    assert pages.num_connections == 0


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "127.1"])
async def test_no_spelling_of_this_machine_gets_past_the_real_resolver(
    pages: PageServer, host: str
) -> None:
    fetcher = PageFetcher(FetchLimits(allowed_ports=(pages.port,)))

    await assert_refused(fetcher, pages.url(host), "cannot be read")

    assert pages.num_connections == 0


async def test_an_address_is_fetched_from_where_it_is_allowed_itself(pages: PageServer) -> None:
    page = await make_fetcher(pages, allowed=(HERE,)).fetch(pages.url(HERE))

    assert page.text == "<p>Hello</p>"


async def test_a_host_is_resolved_once_and_connected_to_where_it_was_found(
    pages: PageServer,
) -> None:
    # Whoever asks again is sent elsewhere: there, nobody listens.
    names = Names({SITE: [[HERE], ["127.0.0.2"]]})

    await make_fetcher(pages, names).fetch(pages.url(SITE))

    assert names.asked == [SITE]


async def test_each_hop_of_a_redirect_is_judged_by_itself(pages: PageServer) -> None:
    pages.answers["/in"] = redirect(pages.url("inside.example"))
    pages.answers["/address"] = redirect(pages.url(HERE))
    fetcher = make_fetcher(pages)

    await assert_refused(fetcher, pages.url(SITE, "/in"), "inside.example is at 127.0.0.1")
    await assert_refused(fetcher, pages.url(SITE, "/address"), "its host is 127.0.0.1")

    assert pages.num_connections == 2


async def test_a_name_that_turns_private_between_two_hops_is_refused(pages: PageServer) -> None:
    pages.answers["/again"] = redirect("/")
    names = Names({"turning.example": [[HERE], ["127.0.0.2"]]})
    fetcher = make_fetcher(pages, names, allowed=(HERE,))

    await assert_refused(fetcher, pages.url("turning.example", "/again"), r"is at 127\.0\.0\.2")

    assert pages.num_connections == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed_to_relative_places_too(
    pages: PageServer, status: int
) -> None:
    pages.answers["/a/b"] = redirect("../", status)

    page = await make_fetcher(pages).fetch(pages.url(SITE, "/a/b#part"))

    assert page.url == pages.url(SITE)


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("ftp://site.example/", "http and https"),
        ("file:///etc/passwd", "http and https"),
        ("http://user:pw@site.example/", "user or a password"),
        ("http://site.example:22/", "port 22"),
        ("//[", "URL"),
    ],
)
async def test_a_redirect_to_what_is_not_followed_is_refused(
    pages: PageServer, location: str, why: str
) -> None:
    pages.answers["/go"] = redirect(location)

    await assert_refused(make_fetcher(pages), pages.url(SITE, "/go"), why)


async def test_redirects_without_end_are_given_up(pages: PageServer) -> None:
    pages.answers["/round"] = redirect("/round")

    await assert_refused(make_fetcher(pages), pages.url(SITE, "/round"), "more than 5 times")

    assert pages.num_connections == 6


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (respond(status=404), "answers with 404"),
        (respond(status=500), "answers with 500"),
        (respond(status=302), "answers with 302"),
        (respond(b"%PDF", kind="application/pdf"), "application/pdf; read are text/html"),
        (respond(b"x", kind="image/png"), "image/png"),
        (respond(b"{}", kind="application/json"), "application/json"),
        (respond(b"x", Content_Encoding="br"), "packed as br"),
        (respond(b"x", Content_Encoding="gzip"), "no gzip"),
        (respond(b"x" * 2000), "max_page_bytes, which is 1000"),
        (respond(gzip.compress(bytes(10**7)), Content_Encoding="gzip"), "max_page_bytes"),
        (b"no HTTP at all\r\n\r\n", "cannot be read"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", "cannot be read"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\nx", "cannot be"),
        (b"", "cannot be read"),
    ],
)
async def test_what_cannot_be_read_is_told_with_the_reason(
    pages: PageServer, answer: bytes, why: str
) -> None:
    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    pages.answers["/odd"] = write

    await assert_refused(make_fetcher(pages, max_bytes=1000), pages.url(SITE, "/odd"), why)


async def test_a_page_without_end_is_read_no_further_than_the_limit(pages: PageServer) -> None:
    async def pour(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    pages.answers["/pour"] = pour

    await assert_refused(make_fetcher(pages), pages.url(SITE, "/pour"), "max_page_bytes")


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>"])
async def test_a_page_that_does_not_come_to_its_end_is_given_up(
    pages: PageServer, head: bytes
) -> None:
    async def hold(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await writer.drain()
        await asyncio.Event().wait()

    pages.answers["/hold"] = hold
    fetcher = PageFetcher(
        FetchLimits(timeout_s=0.2, allowed_ports=(pages.port,), allowed_private_hosts=(SITE,)),
        resolve=Names({SITE: [[HERE]]}),
    )

    await assert_refused(fetcher, pages.url(SITE, "/hold"), "not complete after 0.2 s")


async def test_whoever_stops_waiting_closes_the_connection(pages: PageServer) -> None:
    has_begun, has_ended = asyncio.Event(), asyncio.Event()

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")
        has_begun.set()
        while not writer.transport.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0)
        has_ended.set()

    pages.answers["/drip"] = drip
    fetching = asyncio.create_task(make_fetcher(pages).fetch(pages.url(SITE, "/drip")))
    await has_begun.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching

    async with asyncio.timeout(5):
        await has_ended.wait()


async def test_neither_a_proxy_of_the_environment_nor_a_cookie_of_before_is_used(
    pages: PageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    pages.answers["/"] = respond(PAGE, Set_Cookie="a=b")
    fetcher = make_fetcher(pages)

    await fetcher.fetch(pages.url(SITE))
    await fetcher.fetch(pages.url(SITE))

    assert not any("cookie" in head for head in pages.requests)
    # No connection is kept that could have been made for another name.
    assert pages.num_connections == 2


async def test_a_packed_page_is_unpacked(pages: PageServer) -> None:
    pages.answers["/"] = respond(gzip.compress(PAGE), Content_Encoding="gzip")

    assert (await make_fetcher(pages).fetch(pages.url(SITE))).text == PAGE.decode()


async def test_a_name_that_nobody_knows_is_told_of(pages: PageServer) -> None:
    await assert_refused(make_fetcher(pages), pages.url("nowhere.example"), "nowhere.example")


@pytest.mark.parametrize(
    ("body", "charset", "text"),
    [
        ("Grüße".encode(), None, "Grüße"),
        ("Grüße".encode("latin-1"), "iso-8859-1", "Grüße"),
        ('<meta charset="iso-8859-1">ü'.encode("latin-1"), None, '<meta charset="iso-8859-1">ü'),
        ("<meta content='text/html; charset=gbk'>长".encode("gbk"), None, None),
        ("Grüße".encode(), "no-such-charset", "Grüße"),
        ("Grüße".encode(), "punycode", "Grüße"),
        (b"a\\x41", "unicode_escape", "a\\x41"),
        ("Grüße".encode("utf-16"), "UTF-16", "Grüße"),
        ("Grüße".encode("cp1252"), "Windows-1252", "Grüße"),
        ("長".encode("shift_jis"), "Shift_JIS", "長"),
        (b"\xff", None, "\ufffd"),
        (b"", None, ""),
    ],
)
def test_a_page_is_decoded_as_its_head_or_itself_says(
    body: bytes, charset: str | None, text: str | None
) -> None:
    expected = "<meta content='text/html; charset=gbk'>长" if text is None else text

    assert decode(body, charset) == expected

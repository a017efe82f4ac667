"""Searching through SearXNG: a real server on this machine that answers as one does."""

from __future__ import annotations

import asyncio
import json

import pytest

from mm_orch.core.errors import SearchError
from mm_orch.search.searxng import SearxngProvider
from mm_orch.search.settings import SearchSettings
from tests.page_server import Answer, respond, serve_pages

RESULTS = [
    {"url": "https://a.example/1#part", "title": "One", "content": "first", "engine": "x"},
    {"url": "https://a.example/2", "title": None},
    {"url": "https://a.example/1", "title": "Again", "content": "first again"},
    {"url": "https://a.example/3", "title": "Three", "content": None},
]


def answer_of(results: object, **others: object) -> bytes:
    return respond(
        json.dumps({"query": "q", "results": results, **others}).encode(), kind="application/json"
    )


def make_provider(url: str, timeout_s: float = 5.0) -> SearxngProvider:
    return SearxngProvider(SearchSettings(provider="searxng", url=url, timeout_s=timeout_s))


async def test_pages_are_found_in_their_order_each_once() -> None:
    async with serve_pages({"/search": answer_of(RESULTS)}) as server:
        found = await make_provider(server.url("127.0.0.1", "/")).search("a b&c", limit=2)

    assert [(hit.url, hit.title, hit.snippet) for hit in found.hits] == [
        ("https://a.example/1", "One", "first"),
        ("https://a.example/2", "", ""),
    ]
    assert (found.notice, found.failure) == ("", None)
    assert server.requests[0].startswith("get /search?q=a+b%26c&format=json ")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (respond(status=403), r"answers with 403. Add json to search.formats"),
        (respond(status=429), "answers with 429"),
        (respond(status=302, Location="http://elsewhere.example/"), "answers with 302"),
        (respond(b"<html>"), "no result of SearXNG"),
        (answer_of({}), "no result of SearXNG"),
        (answer_of([{"title": "no url"}]), "no result of SearXNG"),
        (respond(b"x" * (3 * 2**20)), "with over"),
        (b"nothing of HTTP\r\n\r\n", "cannot be reached"),
    ],
)
async def test_an_answer_that_is_none_is_told_with_what_to_do(answer: Answer, why: str) -> None:
    async with serve_pages({"/search": answer}) as server:
        with pytest.raises(SearchError, match=why):
            await make_provider(server.url("127.0.0.1")).search("q", limit=3)


async def test_without_the_network_it_is_said_that_the_web_cannot_be_searched() -> None:
    async with serve_pages() as server:
        url = server.url("127.0.0.1")

    with pytest.raises(SearchError, match=r"cannot be searched: .* cannot be reached"):
        await make_provider(url).search("q", limit=3)


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async def hold(_: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with serve_pages({"/search": hold}) as server:
        with pytest.raises(SearchError, match=r"within 0\.1 s"):
            await make_provider(server.url("127.0.0.1"), timeout_s=0.1).search("q", limit=3)


def test_a_server_has_to_be_named() -> None:
    with pytest.raises(SearchError, match=r"workflows\.search\.url is not set"):
        make_provider("")

"""Search as workflows see it: which provider answers, and what stands in for it."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import SearchError
from mm_orch.search.corpus_file import make_line
from mm_orch.search.errors import PageError
from mm_orch.search.fetching import PageFetcher
from mm_orch.search.limits import FetchLimits
from mm_orch.search.page import Found, Hit, RawPage
from mm_orch.search.provider import ENTRY_POINT_GROUP, make_provider
from mm_orch.search.service import Search
from mm_orch.search.settings import SearchSettings
from tests.page_server import Names, respond, serve_pages

if TYPE_CHECKING:
    from pathlib import Path

# Nobody listens on the port of discarded data.
AWAY = "http://127.0.0.1:9"


class OtherProvider:
    """What a plug-in may offer."""

    def __init__(self, settings: SearchSettings) -> None:
        self.settings = settings

    async def search(self, query: str, *, limit: int) -> Found:
        return Found(hits=(Hit(url="https://a.example/", title=f"{query} {limit}"),))


def make_none(_: SearchSettings) -> OtherProvider:
    raise ZeroDivisionError("secret")


def leave(_: SearchSettings) -> OtherProvider:
    raise SystemExit("secret")


def refuse(_: SearchSettings) -> OtherProvider:
    raise SearchError("It wants a key.")


@pytest.mark.parametrize(
    ("provider", "has_corpus", "is_open"),
    [("recorded", False, False), ("recorded", True, True), ("searxng", False, True)],
)
def test_unasked_only_what_the_operator_has_chosen_is_searched(
    provider: str, tmp_path: Path, *, has_corpus: bool, is_open: bool
) -> None:
    corpus = tmp_path if has_corpus else None
    search = Search(SearchSettings(provider=provider, url=AWAY, corpus=corpus))

    assert (search.obstacle is None) is is_open


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        importlib.metadata.EntryPoint("other", f"{__name__}:OtherProvider", ENTRY_POINT_GROUP),
        importlib.metadata.EntryPoint("broken", f"{__name__}:make_none", ENTRY_POINT_GROUP),
        importlib.metadata.EntryPoint("closed", f"{__name__}:refuse", ENTRY_POINT_GROUP),
        importlib.metadata.EntryPoint("gone", "no_such_module:Provider", ENTRY_POINT_GROUP),
        importlib.metadata.EntryPoint("leaving", f"{__name__}:leave", ENTRY_POINT_GROUP),
    ]
    monkeypatch.setattr(
        importlib.metadata,
        "entry_points",
        lambda group: entries if group == ENTRY_POINT_GROUP else [],
    )


@pytest.mark.usefixtures("plug_in")
async def test_a_plug_in_is_asked_for_as_many_pages_as_may_be_needed() -> None:
    found = await Search(SearchSettings(provider="other", max_pages=3)).find(" a\n question ")

    assert [hit.title for hit in found.hits] == ["a question 6"]


@pytest.mark.usefixtures("plug_in")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("missing", "is 'missing'. Known: broken, closed, gone, leaving, other, recorded, searxng"),
        ("gone", "gone .* cannot be imported or made: No module named 'no_such_module'"),
        ("broken", r"broken .* cannot be imported or made: ZeroDivisionError\. Repair"),
        ("leaving", r"leaving .* cannot be imported or made: SystemExit\. Repair"),
        # It says itself what is wrong.
        ("closed", r"^It wants a key\.$"),
    ],
)
def test_a_provider_that_is_not_there_is_told_of(name: str, why: str) -> None:
    with pytest.raises(SearchError, match=why):
        make_provider(SearchSettings(provider=name), name)


@pytest.mark.usefixtures("plug_in")
def test_what_a_plug_in_failed_of_is_in_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SearchError) as refused:
        make_provider(SearchSettings(provider="broken"), "broken")

    assert "secret" not in str(refused.value)
    assert "the search provider broken cannot be made" in caplog.text
    assert "ZeroDivisionError: secret" in caplog.text


async def test_the_recorded_corpus_needs_no_network_and_says_so() -> None:
    search = Search(SearchSettings())

    found = await search.find("How high is K2?")

    assert found.notice.startswith("The web was not searched")
    document = await search.read(found.hits[0])
    assert (document.title, document.url) == ("K2", "https://pages.example/k2")
    assert "8,611" in document.text


async def test_while_the_web_is_away_a_corpus_of_the_operators_own_is_searched(
    tmp_path: Path,
) -> None:
    corpus = tmp_path / "own.jsonl"
    page = RawPage(
        url="https://a.example/",
        content_type="text/plain",
        text="Otters eat trout.",
        fetched_at=dt.datetime(2026, 11, 27, tzinfo=dt.UTC),
    )
    corpus.write_bytes(make_line(page))

    own = await Search(SearchSettings(provider="searxng", url=AWAY, corpus=corpus)).find("otters")

    assert [hit.url for hit in own.hits] == ["https://a.example/"]
    assert "own.jsonl" in own.notice
    assert "cannot be searched" in str(own.failure)


async def test_while_the_web_is_away_the_corpus_that_is_built_in_does_not_stand_in() -> None:
    with pytest.raises(SearchError, match="The web cannot be searched"):
        await Search(SearchSettings(provider="searxng", url=AWAY)).find("How high is K2?")


async def test_a_page_that_was_found_elsewhere_is_fetched_and_has_the_title_it_was_found_by() -> (
    None
):
    async with serve_pages({"/": respond(b"Hello.", kind="text/plain")}) as server:
        fetcher = PageFetcher(
            FetchLimits(allowed_ports=(server.port,), allowed_private_hosts=("a.example",)),
            resolve=Names({"a.example": [["127.0.0.1"]]}),
        )
        search = Search(SearchSettings(), fetcher)
        document = await search.read(Hit(url=server.url("a.example"), title="Found so"))

    assert (document.text, document.title) == ("Hello.", "Found so")


async def test_by_itself_it_fetches_nothing_from_this_machine() -> None:
    with pytest.raises(PageError, match="which is refused"):
        await Search(SearchSettings()).read(Hit(url="http://127.0.0.1/", title=""))

"""What is found by words: texts of a corpus, passages of a page, sentences to quote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.search.passages import choose_passages, choose_sentences
from mm_orch.search.ranking import Ranking, content_of

TEXTS = ["otters eat trout", "trout and trout and trout", "herons eat frogs in the reeds"]


def test_the_text_with_more_and_rarer_words_of_the_query_goes_first() -> None:
    ranked = Ranking(TEXTS).rank("What do otters eat?")

    assert [one.index for one in ranked] == [0, 2]
    assert [one.share for one in ranked] == [1.0, 0.5]
    assert ranked[0].score > ranked[1].score > 0


def test_a_query_of_nothing_but_common_words_looks_for_those() -> None:
    assert [one.index for one in Ranking(TEXTS).rank("in the")] == [2]


@pytest.mark.parametrize("query", ["", "?", "zebra"])
def test_a_query_whose_words_no_text_has_finds_nothing(query: str) -> None:
    assert Ranking(TEXTS).rank(query) == []
    assert Ranking([]).rank(query) == []


def test_chinese_is_found_by_pairs_of_characters_that_name_something() -> None:
    assert content_of("\u957f\u6c5f\u6709\u591a\u957f\uff1f") == {"\u957f\u6c5f"}


@given(st.lists(st.text(max_size=30), max_size=5), st.text(max_size=30))
def test_shares_and_scores_are_within_their_bounds(texts: list[str], query: str) -> None:
    ranked = Ranking(texts).rank(query)

    assert all(0 < one.share <= 1 and one.score > 0 for one in ranked)
    assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)


LONG = "\n".join(
    f"Paragraph {number} is about stones. " + "Stones are grey. " * 40 for number in range(30)
)


def test_of_a_long_text_the_passages_with_the_querys_words_are_taken_in_their_order() -> None:
    text = f"{LONG}\nOtters weigh 9 kilograms.\n{LONG}\nOtters eat trout.\n{LONG}"

    chosen = choose_passages(text, "What do otters weigh and eat?", 2500)

    assert chosen.index("Otters weigh 9 kilograms.") < chosen.index("Otters eat trout.")
    assert len(chosen.encode()) <= 2500


@given(st.text(max_size=300), st.text(max_size=20), st.integers(0, 200))
def test_no_more_of_a_text_is_taken_than_fits(text: str, query: str, max_bytes: int) -> None:
    assert len(choose_passages(text, query, max_bytes).encode("utf-8", "replace")) <= max(
        max_bytes, 0
    )


PAGES = [
    (
        "Mount Vell",
        "Mount Vell is the highest of all. Its height is 2,100 metres. Goats live there.",
    ),
    ("Dam of Orr", "The high dam of Orr was closed in 1970."),
]


@pytest.mark.parametrize(
    ("query", "quoted"),
    [
        ("How high is Mount Vell?", (0, "Its height is 2,100 metres.")),
        ("When was the dam of Orr closed?", (1, "The high dam of Orr was closed in 1970.")),
        ("What lives on Mount Vell?", (0, "Goats live there.")),
    ],
)
def test_the_sentence_with_the_names_asked_for_is_quoted(
    query: str, quoted: tuple[int, str]
) -> None:
    assert choose_sentences(PAGES, query, limit=1, min_share=0.3) == [quoted]


@pytest.mark.parametrize("query", ["Who won the cup of 1998?", "How deep is Lake Zorn?", ""])
def test_nothing_is_quoted_for_what_the_pages_do_not_name(query: str) -> None:
    assert choose_sentences(PAGES, query, limit=3, min_share=0.3) == []


def test_what_is_too_long_to_be_quoted_is_not() -> None:
    assert choose_sentences([("Vell", "Vell " * 100)], "Vell", limit=1, min_share=0.0) == []

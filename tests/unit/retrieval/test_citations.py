"""Which statements a source bears out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.retrieval.citations import SourceText, bear_out
from mm_orch.retrieval.sentences import split_sentences

LIGHT = (
    "Cape Merrow Light",
    "It was first lit on 3 October 1834. The tower has 201 steps. Children may not climb it.",
)
BREWERY = ("Hearn's Brewery", "The well is 61 metres deep. It has 58 employees.")
SOURCES = [SourceText(*LIGHT), SourceText(*BREWERY)]
QUESTION = "When was Cape Merrow Light first lit?"


@pytest.mark.parametrize(
    ("answer", "cited"),
    [
        (
            "Cape Merrow Light was first lit on 3 October 1834.",
            ["Cape Merrow Light was first lit on 3 October 1834. [1]"],
        ),
        ("The well is 61 metres deep [1].", ["The well is 61 metres deep. [2]"]),
        ("The well is 61 metres deep (source 7).", ["The well is 61 metres deep. [2]"]),
        ("[1, 2] The tower has 201 steps.", ["The tower has 201 steps. [1]"]),
        ("The tower has 201 steps. The tower has 201 steps.", ["The tower has 201 steps. [1]"]),
        # Of another number, another name, another source, another place.
        ("The tower has 202 steps.", []),
        ("The tower of Gannet Holm has 201 steps.", []),
        ("Hearn's Brewery has 201 steps.", []),
        ("It was first lit in 1834 and has 61 steps.", []),
        # The opposite; words of the question alone; other words; nothing.
        ("Children may climb it.", []),
        ("Cape Merrow Light was first lit.", []),
        ("A giant lived among clouds above.", []),
        ("", []),
    ],
)
def test_a_statement_is_kept_with_the_source_that_has_it(answer: str, cited: list[str]) -> None:
    assert [one.cited for one in bear_out(answer, QUESTION, SOURCES)] == cited


@given(
    st.lists(
        st.tuples(
            st.sampled_from(split_sentences(LIGHT[1] + " " + BREWERY[1])), st.integers(0, 99)
        ),
        max_size=4,
    )
)
def test_what_a_source_says_word_for_word_is_kept_whatever_is_cited(
    quoted: list[tuple[str, int]],
) -> None:
    answer = " ".join(f"{sentence} [{number}]" for sentence, number in quoted)

    statements = bear_out(answer, "?", SOURCES)

    assert [one.text for one in statements] == list(dict.fromkeys(text for text, _ in quoted))
    for one in statements:
        assert one.text in (LIGHT, BREWERY)[one.source - 1][1]


@given(st.text())
def test_any_text_can_be_checked_and_cites_sources_that_are_there(answer: str) -> None:
    assert all(one.source in {1, 2} for one in bear_out(answer, QUESTION, SOURCES))

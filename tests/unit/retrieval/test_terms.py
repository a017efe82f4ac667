"""What counts as a word, a name, a number or a code."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.retrieval.terms import STOP_WORDS, facts_of, read_question, terms_of


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Ferries, ferry; FERRY's", ["ferry", "ferry", "ferry"]),
        ("stopped stops stopping", ["stop", "stop", "stop"]),
        ("glass", ["glass"]),
        ("1,816 sheets", ["1816", "sheet"]),
        ("code E-17", ["cod", "e-17", "e", "17"]),
        ("PS/40/2", ["ps/40/2", "ps", "40", "2"]),
        ("4.9 metres", ["4.9", "4", "9", "metr"]),
        ("well-filled file", ["well", "fill", "fil"]),
        ("机器学习", ["机器", "器学", "学习"]),
        ("用OP-60吗", ["用", "op-60", "op", "60", "吗"]),
        ("", []),
        ("?! --", []),
    ],
)
def test_words_lose_their_endings_and_codes_are_whole_and_in_parts(
    text: str, terms: list[str]
) -> None:
    assert terms_of(text) == terms


@pytest.mark.parametrize(
    ("question", "keys"),
    [
        ("What does code E-17 mean on the Orrin OP-60B?", {"e-17", "orrin", "op-60b"}),
        ("Who was the first master of Pennet Queen VI?", {"pennet", "queen", "vi"}),
        ("Judith Amory paid how many sacks?", {"judith", "amory"}),
        ("Which stall may be signed 12B?", {"12b"}),
        ("Cooks do what with salt?", set()),
        ("how deep is the well", set()),
    ],
)
def test_names_numbers_and_codes_are_what_an_answer_cannot_be_without(
    question: str, keys: set[str]
) -> None:
    read = read_question(question)

    assert read.keys == keys
    assert read.keys <= read.content


def test_a_word_at_the_beginning_of_a_sentence_is_no_name_by_its_capital_letter() -> None:
    assert facts_of("Salt was dear. Sheep were not.") == frozenset()
    assert facts_of("Then Amory paid in salt.") == {"amory"}


@given(st.text())
def test_every_text_can_be_read(text: str) -> None:
    read = read_question(text)

    assert read.keys <= read.content <= set(terms_of(text))
    assert not read.content & STOP_WORDS


@given(st.lists(st.sampled_from(["Amory", "E-17", "salt", "1,816", "盐税", "wells"]), min_size=1))
def test_terms_of_a_text_are_those_of_its_words(words: list[str]) -> None:
    assert terms_of(" ".join(words)) == [term for word in words for term in terms_of(word)]

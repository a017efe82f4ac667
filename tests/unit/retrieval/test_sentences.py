"""Where a statement ends."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.retrieval.sentences import split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ('He said "Stop." She went.', ['He said "Stop."', "She went."]),
        (
            "Dr. Cade and J. R. Smith met at St. Orla.",
            ["Dr. Cade and J. R. Smith met at St. Orla."],
        ),
        ("It is 4.9 metres. Deep.", ["It is 4.9 metres.", "Deep."]),
        ("1. Open the valve. Wait.", ["1. Open the valve.", "Wait."]),
        ("approx. half of it", ["approx. half of it"]),
        ("| a. B | c |\n| --- | --- |\n| 1 | 2 |", ["| a. B | c |", "| 1 | 2 |"]),
        ("- one\n\n- two\n***", ["- one", "- two"]),
        ("你好。再见\uff01", ["你好。", "再见\uff01"]),
        ("No end", ["No end"]),
        (
            "See No. 12. The answer is no. It rained.",
            ["See No. 12.", "The answer is no.", "It rained."],
        ),
        (" \n ", []),
    ],
)
def test_sentences_rows_and_items_are_statements(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@pytest.mark.parametrize("text", ["A. " * 40_000, "1. " * 40_000, "a b. " * 30_000, "x" * 200_000])
def test_a_long_line_takes_no_time(text: str) -> None:
    begin_s = time.process_time()

    split_sentences(text)

    assert time.process_time() - begin_s < 2.0


@given(st.text())
def test_statements_stand_in_the_text_in_order_and_lose_no_words(text: str) -> None:
    begin = 0
    for sentence in split_sentences(text):
        found = text.find(sentence, begin)
        assert sentence.strip() == sentence != ""
        assert found >= begin
        assert not any(one.isalnum() for one in text[begin:found])
        begin = found + len(sentence)
    assert not any(one.isalnum() for one in text[begin:])

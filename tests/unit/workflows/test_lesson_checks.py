"""What of a model's text can be used, what is the same, and what sentences a text has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.workflows.lesson_checks import (
    find_fault_of_line,
    find_fault_of_text,
    goes_in_circles,
    is_same,
    keep_sentences,
    normalise,
)

if TYPE_CHECKING:
    from mm_orch.workflows.lesson_schema import Language

PLAIN = "Plants need sunlight, water and carbon dioxide. Roots take up water every single day."


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What is a root?", "what is A ROOT", True),
        ("What is a root?", "\uff37hat is a root\uff1f", True),  # full width
        ("What do plants need to grow well?", "What do the plants need to grow well?", True),
        ("What is a root?", "What is a leaf?", False),
        ("What is 2 + 3?", "What is 2 + 4?", False),
        ("植物需要什么", "植物需要什么呢", True),
        ("植物需要什么", "动物吃什么", False),
        ("", "...", True),
        ("", "a", False),
    ],
)
def test_the_same_is_said_whatever_the_case_the_signs_and_one_word_in_five(
    one: str, other: str, *, same: bool
) -> None:
    assert is_same(one, other) is same
    assert is_same(other, one) is same


@pytest.mark.parametrize(
    ("text", "circles"),
    [
        (PLAIN, False),
        ("the root the root the root the root", True),
        ("It is big. It is red. It is round.", False),
        ("a b c d a b c d a b c d", True),
        ("water " * 3, False),
        ("water " * 6, True),
        ("植物植物植物植物植物", True),
        ("光合作用是植物利用阳光制造养分的过程,植物的叶子里有叶绿素", False),
        ("", False),
    ],
)
def test_a_text_goes_in_circles_when_a_phrase_comes_three_times(
    text: str, *, circles: bool
) -> None:
    assert goes_in_circles(text) is circles


@pytest.mark.parametrize(
    ("language", "text", "kept"),
    [
        ("en", "One two three. Four five six. And then", "One two three. Four five six."),
        ("en", "One two three. One two, three! Four five.", "One two three. Four five."),
        ("en", "Pi is 3.14 or so. It goes on", "Pi is 3.14 or so."),
        ("en", "It has no end", "It has no end"),
        ("en", 'He said "stop." Then he went.', 'He said "stop." Then he went.'),
        ("zh", "植物需要阳光\u3002根吸收水分\u3002还有", "植物需要阳光\u3002根吸收水分\u3002"),
        ("zh", "植物\u3002植物\u3002动物\u3002", "植物\u3002动物\u3002"),
    ],
)
def test_sentences_are_kept_that_are_whole_and_new(
    language: Language, text: str, kept: str
) -> None:
    assert keep_sentences(text, language) == kept


@given(st.text(max_size=200), st.sampled_from(["en", "zh"]))
def test_what_is_kept_is_kept_as_it_is(text: str, language: Language) -> None:
    kept = keep_sentences(text, language)

    assert keep_sentences(kept, language) == kept
    # No word is made up.
    assert set(normalise(kept).split()) <= set(normalise(text).split())


@pytest.mark.parametrize(
    ("language", "line", "fault"),
    [
        ("en", "What plants need", ""),
        ("en", "?!", "it says nothing"),
        ("en", "Answer", "it says nothing"),
        ("zh", "答案", "it says nothing"),
        ("zh", "What plants need", "it is in another language"),
        ("en", "植物需要什么", "it is in another language"),
        ("en", "The root!", "it is a repetition"),
    ],
)
def test_a_line_must_say_something_new_in_its_language(
    language: Language, line: str, fault: str
) -> None:
    assert find_fault_of_line(line, language, others=["the root"]) == fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (PLAIN, ""),
        ("Plants need sunlight.", "it is too short"),
        (PLAIN.upper(), "it is a copy of what was asked"),
        ("the root " * 9, "it repeats itself"),
        ("Stems carry the water from below to each leaf, high up where it is warm.", "it is a rep"),
    ],
)
def test_a_text_must_explain_something(text: str, fault: str) -> None:
    shown = [] if text == PLAIN else [PLAIN]
    others = ["Stems carry water from below to each leaf, high up where it is warm."]

    found = find_fault_of_text(text, "en", shown=shown, others=others)

    assert found.startswith(fault)
    assert bool(found) is bool(fault)

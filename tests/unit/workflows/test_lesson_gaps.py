"""Exercises that are made of a lesson's own sentences."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.workflows.lesson_checks import is_any_same
from mm_orch.workflows.lesson_gaps import GAP, make_gaps
from mm_orch.workflows.lesson_schema import MAX_QUESTION_CHARS, Language, Section

SECTIONS = [
    Section(
        heading="Light",
        text="Plants catch light with chlorophyll. They are green. Chlorophyll is in each leaf.",
    ),
    Section(heading="Roots", text="Roots take up water from below. The plants drink with roots."),
]


def section(text: str) -> Section:
    return Section(heading="x", text=text)


def test_what_the_lesson_speaks_of_most_is_asked_for_from_each_section_in_turn() -> None:
    gaps = make_gaps(SECTIONS, "en", num_wanted=9)

    assert [(one.question, one.answer) for one in gaps] == [
        (f"Fill in the gap: Plants catch light with {GAP}.", "chlorophyll"),
        (f"Fill in the gap: {GAP} take up water from below.", "Roots"),
        (f"Fill in the gap: {GAP} is in each leaf.", "Chlorophyll"),
        (f"Fill in the gap: The {GAP} drink with roots.", "plants"),
    ]


def test_no_more_are_made_than_are_wanted_and_none_that_the_lesson_has() -> None:
    [first, second] = make_gaps(SECTIONS, "en", num_wanted=2)

    [other, *_] = make_gaps(SECTIONS, "en", num_wanted=1, others=[first.question])

    assert other == second


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "It is so."),
        ("en", "They were with them and then they did that."),
        ("en", "word " * 80 + "end."),
        ("en", "12 3456 78 90 12 34."),
        ("zh", "的了是在和与或也就都"),
        ("zh", "植物"),
    ],
)
def test_a_sentence_without_a_word_worth_asking_for_gives_none(
    language: Language, text: str
) -> None:
    assert make_gaps([section(text)], language, num_wanted=3) == []


def test_a_chinese_term_is_two_characters() -> None:
    [gap] = make_gaps([section("植物利用阳光制造养分\u3002")], "zh", num_wanted=1)

    assert len(gap.answer) == 2
    assert gap.question.replace(GAP, gap.answer).endswith("植物利用阳光制造养分\u3002")


TEXTS = st.lists(
    st.sampled_from(["Plants", "water", "the", "is", "LEAF", "leaf", "a", "roots.", "End.", "So"]),
    min_size=1,
    max_size=40,
).map(" ".join)


@given(st.lists(TEXTS, min_size=1, max_size=3), st.integers(1, 20))
def test_no_gap_is_a_repetition_and_no_answer_stands_in_its_question(
    texts: list[str], num_wanted: int
) -> None:
    gaps = make_gaps([section(text) for text in texts], "en", num_wanted=num_wanted)

    assert len(gaps) <= num_wanted
    for number, gap in enumerate(gaps):
        assert GAP in gap.question
        assert len(gap.question) <= MAX_QUESTION_CHARS
        assert gap.answer.casefold() not in gap.question.casefold().split()
        assert not is_any_same(gap.question, [one.question for one in gaps[:number]])

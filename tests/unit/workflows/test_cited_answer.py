"""What of a model's answer is told: sentences that a page bears out, as they come, with marks."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.retrieval.citations import SourceText
from mm_orch.search.page import Document
from mm_orch.workflows.cited_answer import Citations, CitedAnswer, Page

QUESTION = "How high is Mount Vell, and who climbed it?"


def make_page(number: int, text: str, title: str = "Mount Vell") -> Page:
    document = Document(
        url=f"https://a.example/{number}",
        title=title,
        text=text,
        fetched_at=dt.datetime(2026, 11, 27, tzinfo=dt.UTC),
    )
    return Page(document, SourceText(title, text), "notes")


PAGES = (
    make_page(1, "The height of Mount Vell is 2,100 metres."),
    make_page(2, "Mara Lind climbed Mount Vell in 1921. Goats live there."),
)
TRUE = "Mara Lind climbed Mount Vell in 1921 [7]. The height of Mount Vell is 2,100 metres [2]."
TOLD = "Mara Lind climbed Mount Vell in 1921. [1] The height of Mount Vell is 2,100 metres. [2]"


def play(text: str, size: int = 5) -> tuple[CitedAnswer, Citations, list[str]]:
    citations = Citations()
    answer = CitedAnswer(QUESTION, PAGES, citations)
    pieces = [take(answer, text[at : at + size]) for at in range(0, len(text), size)]
    return answer, citations, [*pieces, answer.finish()]


def take(answer: CitedAnswer, piece: str) -> str:
    return answer.tell_complete() if answer.hear(piece) else ""


@given(size=st.integers(1, 100))
def test_sentences_are_told_with_marks_of_the_pages_that_bear_them_out(size: int) -> None:
    answer, citations, pieces = play(TRUE, size)

    assert "".join(pieces) == answer.text == TOLD
    assert [one.metadata["url"] for one in citations.list_sources(QUESTION)] == [
        "https://a.example/2",
        "https://a.example/1",
    ]
    assert citations.tell().splitlines()[0] == (
        "[1] Mount Vell, https://a.example/2 (as of 2026-11-27)"
    )


def test_a_sentence_is_told_as_soon_as_the_next_one_has_begun() -> None:
    answer = CitedAnswer(QUESTION, PAGES, Citations())

    assert take(answer, "Mara Lind climbed Mount Vell in 1921.") == ""
    assert take(answer, " Th") == "Mara Lind climbed Mount Vell in 1921. [1]"
    assert take(answer, "en") == answer.finish() == ""


@pytest.mark.parametrize(
    "lead",
    [
        "The answer is: ",
        "Answer to the question is: ",
        "Mount Vell: ",
        "[1] Mount Vell: ",
        "The answer is: [2] Mount Vell: ",
    ],
)
def test_what_a_small_model_puts_before_a_sentence_is_left_out(lead: str) -> None:
    answer, _, _ = play(f"{lead}Mara Lind climbed Mount Vell in 1921.")

    assert answer.text == "Mara Lind climbed Mount Vell in 1921. [1]"


def test_what_a_page_about_something_else_bears_out_is_no_answer() -> None:
    other = make_page(3, "It is a river in Orr. Goats live there.", title="Zorn")
    answer = CitedAnswer("Where is Mount Vell?", (other,), Citations())

    assert take(answer, "It is a river in Orr.") == answer.finish() == ""


@pytest.mark.parametrize(
    "text",
    [
        "The height of Mount Vell is 2,200 metres [1].",
        "Mara Orr climbed Mount Vell in 1921 [2].",
        "The height of Mount Vell is not 2,100 metres [1].",
        "How high is Mount Vell?",
        "It is known by all.",
        "[1] [2]",
        "",
    ],
)
def test_what_no_page_bears_out_is_not_told(text: str) -> None:
    answer, citations, pieces = play(text)

    assert ("".join(pieces), answer.text, answer.is_empty) == ("", "", True)
    assert (answer.confidence, citations.list_sources(QUESTION), citations.tell()) == (0.0, (), "")


def test_confidence_is_greater_the_more_of_the_answer_is_borne_out() -> None:
    whole, _, _ = play(TRUE)
    half, _, _ = play(f"{TRUE} It is in Peru. It is green.")

    assert 0 < half.confidence < whole.confidence <= 1


def test_a_sentence_that_is_said_twice_is_told_once() -> None:
    answer, _, _ = play(f"{TRUE} {TRUE}")

    assert answer.text == TOLD


def test_a_page_is_quoted_word_for_word() -> None:
    citations = Citations()
    answer = CitedAnswer(QUESTION, PAGES, citations)

    assert answer.quote(PAGES[1], "Goats live there.") == answer.text == '"Goats live there." [1]'
    assert 0 < answer.confidence < 0.5
    [source] = citations.list_sources(QUESTION)
    assert source.content == '"Goats live there."'


def test_answers_to_several_questions_are_numbered_together() -> None:
    first, _, _ = play("The height of Mount Vell is 2,100 metres.")
    second, _, _ = play(TRUE)
    together = Citations()

    assert first.tell(together).endswith("[1]")
    assert second.tell(together) == (
        "Mara Lind climbed Mount Vell in 1921. [2] The height of Mount Vell is 2,100 metres. [1]"
    )
    assert len(together.list_sources(QUESTION)) == 2


@given(st.text(max_size=80), st.integers(1, 10))
def test_any_text_in_pieces_is_told_as_it_is_told_whole(text: str, size: int) -> None:
    pieces, _, _ = play(text, size)
    whole, _, _ = play(text, max(1, len(text)))

    assert pieces.text == whole.text

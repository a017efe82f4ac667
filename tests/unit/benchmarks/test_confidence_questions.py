"""The questions with known answers, divided by their rule, and the reading of answers."""

from __future__ import annotations

import json
from collections import Counter
from typing import get_args

import pytest

from benchmarks.confidence.answers import find_number, is_right
from benchmarks.confidence.questions import (
    Form,
    Kind,
    Part,
    Question,
    load_questions,
    parse_questions,
    part_of,
)

PARTS: tuple[Part, ...] = get_args(Part)
OPTIONS = "Which of these is a fruit? A) hammer B) a red apple C) river"


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return [question for part in PARTS for question in load_questions(part)]


def a_line(**changes: object) -> bytes:
    text = str(changes.get("question", "Which day comes after Monday?"))
    question = {
        "question": text,
        "kind": "order",
        "part": part_of(text),
        "form": "words",
        "answers": ["Tuesday"],
    }
    return json.dumps(question | changes).encode() + b"\n"


def a_question(form: Form, *answers: str, question: str = "What?") -> Question:
    return Question(question=question, kind="fact", part="held_out", form=form, answers=answers)


def test_there_are_enough_questions_of_each_kind_in_each_part(questions: list[Question]) -> None:
    counts = Counter((question.kind, question.part) for question in questions)

    assert len(questions) >= 400
    assert [
        (kind, part) for kind in get_args(Kind) for part in PARTS if counts[kind, part] < 20
    ] == []


def test_halves_of_the_questions_are_held_out(questions: list[Question]) -> None:
    num_held_out = sum(question.part == "held_out" for question in questions)

    assert 0.45 < num_held_out / len(questions) < 0.55


def test_yes_is_right_as_often_as_no(questions: list[Question]) -> None:
    answers = Counter(one.answers for one in questions if one.form == "yes_no")

    assert answers["yes",] == answers["no",]


def test_the_right_option_is_anywhere(questions: list[Question]) -> None:
    letters = Counter(one.answers[0] for one in questions if one.form == "letter")

    assert set(letters) == {"A", "B", "C"}
    assert min(letters.values()) >= 20


def test_every_answer_is_right_by_itself(questions: list[Question]) -> None:
    pairs = [(question, answer) for question in questions for answer in question.answers]

    assert [one for one, answer in pairs if not is_right(one, answer)] == []


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (b"{}\n", "questions.jsonl, line 1: .*missing required field"),
        (a_line(kind="hard"), "Invalid enum value 'hard'"),
        (a_line(score=1), "unknown field `score`"),
        (a_line() + a_line(question="which day comes AFTER monday"), "is the question of line 1"),
        (a_line(answers=[]), "no answer, or an empty one"),
        (a_line(answers=["Tuesday", ""]), "no answer, or an empty one"),
        (a_line(form="number"), "one answer of digits"),
        (a_line(form="yes_no"), "yes or no has one of both"),
        (a_line(form="letter", answers=["A", "Tuesday"]), "a letter and what it stands for"),
    ],
)
def test_a_faulty_line_is_named(lines: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_questions(lines)


def test_a_question_in_the_wrong_part_is_refused() -> None:
    [wrong] = set(PARTS) - {part_of("Which day comes after Monday?")}

    with pytest.raises(ValueError, match="belongs to the other part"):
        parse_questions(a_line(part=wrong))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12", 12),
        ("The answer is 12.", 12),
        ("7 + 5 = 12", 12),
        ("Twelve!", 12),
        ("twenty-five apples", 25),
        ("There are 1,000 metres.", 1000),
        ("a hundred", 100),
        ("2.5", 2.5),
        ("It has eight legs", 8),
        ("12, or maybe 13", 13),
        ("many", None),
        ("", None),
    ],
)
def test_the_last_number_of_an_answer_counts(text: str, number: float | None) -> None:
    assert find_number(text) == number


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        (a_question("words", "Paris"), "Paris", True),
        (a_question("words", "Paris"), "The capital of France is PARIS. It is old.", True),
        (a_question("words", "Paris"), "Lyon. Paris is another city.", False),
        (a_question("words", "Paris"), "Paris or Lyon", False),
        (a_question("words", "Paris"), "It is not Paris.", False),
        (a_question("words", "Paris"), "Parisian", False),
        (a_question("words", "Paris"), "word " * 20 + "Paris", False),
        (a_question("words", "small", "little"), "little", True),
        (a_question("words", "New York"), "\n\nNew\u00a0York.", True),
        (a_question("words", "Paris"), "...", False),
        (a_question("number", "12"), "12 days", True),
        (a_question("number", "12"), "120", False),
        (a_question("yes_no", "yes"), "Yes, it is no fish.", True),
        (a_question("yes_no", "no"), "Yes, it is no fish.", False),
        (a_question("yes_no", "yes"), "It is.", False),
        (a_question("letter", "B", "a red apple", question=OPTIONS), "B.", True),
        (a_question("letter", "B", "a red apple", question=OPTIONS), "A.", False),
    ],
)
def test_an_answer_is_judged_by_what_it_commits_itself_to(
    question: Question, text: str, *, expected: bool
) -> None:
    assert is_right(question, text) is expected

"""Loads the questions whose answers are known, and checks them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from benchmarks.unique_lines import read_unique

Part = Literal["development", "held_out"]
Kind = Literal[
    "arithmetic", "capital", "opposite", "yes_no", "choice", "order", "fact", "story", "word"
]
Form = Literal["number", "words", "yes_no", "letter"]

_PATH = Path(__file__).with_name("questions.jsonl")
_SPLIT_SEED = 177


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question with its answers; README.md defines the kinds.

    Attributes:
        form: how an answer is read, see answers.is_right.
        answers: any of them is right; of a letter, first the letter and then what it stands for.
    """

    question: str
    kind: Kind
    part: Part
    form: Form
    answers: tuple[str, ...]


def load_questions(part: Part) -> list[Question]:
    """Return the questions of a part, in the order of the file.

    Who fits a calibration or chooses a threshold loads "development" alone.

    Raises:
        ValueError: what parse_questions refuses.
    """
    return [one for one in parse_questions(_PATH.read_bytes()) if one.part == part]


def parse_questions(lines: bytes) -> list[Question]:
    """Return the questions of JSON Lines.

    Raises:
        ValueError: a line is no question, its question is empty, stands in the wrong part or
            equals an earlier one, or its answers are not of its form.
    """
    questions: list[Question] = []
    entries = read_unique(
        lines, Question, file=_PATH.name, noun="question", text_of=lambda one: one.question
    )
    for place, question in entries:
        if question.part != part_of(question.question):
            raise ValueError(f"{place}: {question.question!r} belongs to the other part")
        fault = _find_fault(question)
        if fault:
            raise ValueError(f"{place}: {fault}")
        questions.append(question)
    return questions


def part_of(question: str) -> Part:
    """Say which part a question belongs to; nothing but its text decides that."""
    digest = hashlib.sha256(f"{_SPLIT_SEED} {question}".encode()).digest()
    return "held_out" if int.from_bytes(digest, "big") % 2 == 0 else "development"


def _find_fault(question: Question) -> str | None:
    """Say what is wrong with the answers, or None."""
    answers = question.answers
    if not answers or not all(answers):
        return "there is no answer, or an empty one"
    if question.form == "number" and not (len(answers) == 1 and answers[0].isdecimal()):
        return f"a number is one answer of digits, not {answers}"
    if question.form == "yes_no" and answers not in {("yes",), ("no",)}:
        return f"a question of yes or no has one of both for an answer, not {answers}"
    if question.form == "letter" and not (
        len(answers) == 2  # noqa: PLR2004 - the letter and what it stands for
        and f"{answers[0]}) {answers[1]}" in question.question
    ):
        return f"a letter and what it stands for in the question are needed, not {answers}"
    return None

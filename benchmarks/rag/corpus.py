"""Loads the corpus and the questions that retrieval is measured with, and checks them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from benchmarks.unique_lines import normalised, read_unique

if TYPE_CHECKING:
    from collections.abc import Iterable

Part = Literal["development", "held_out"]
Kind = Literal["plain", "identifier", "paraphrase", "multi", "unanswerable"]
Gap = Literal["fact", "entity", "outside"]

_FOLDER = Path(__file__).parent
_SPLIT_SEED = 188


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A text of the corpus; a paragraph, a row of a table and an item of a list is one line."""

    name: str
    text: str


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question on the corpus; README.md defines the kinds.

    Attributes:
        document: the name of the document with the answer; None when no document has it.
        evidence: the passages of the document that hold the answer, verbatim.
        answer: the answer in short; None when there is none.
        gap: what is missing for an answer; None when there is one.
    """

    question: str
    kind: Kind
    part: Part
    document: str | None
    evidence: tuple[str, ...]
    answer: str | None
    gap: Gap | None = None


def load_documents() -> list[Document]:
    """Return the documents, sorted by name.

    Raises:
        ValueError: two documents are equal.
    """
    paths = sorted((_FOLDER / "documents").iterdir())
    documents = [Document(name=path.name, text=path.read_text("utf-8")) for path in paths]
    name_by_text: dict[str, str] = {}
    for document in documents:
        text = normalised(document.text)
        if text in name_by_text:
            raise ValueError(f"{document.name} has the text of {name_by_text[text]}")
        name_by_text[text] = document.name
    return documents


def load_questions(part: Part) -> list[Question]:
    """Return the questions of a part, in the order of the file.

    Who tunes a retriever loads "development" alone.

    Raises:
        ValueError: what parse_questions refuses.
    """
    lines = (_FOLDER / "questions.jsonl").read_bytes()
    return [one for one in parse_questions(lines, load_documents()) if one.part == part]


def parse_questions(lines: bytes, documents: Iterable[Document]) -> list[Question]:
    """Return the questions of JSON Lines.

    Raises:
        ValueError: a line is no question, its question is empty, stands in the wrong part or
            equals an earlier one, or its evidence does not stand exactly once in its document.
    """
    text_by_name = {document.name: document.text for document in documents}
    questions: list[Question] = []
    entries = read_unique(
        lines,
        Question,
        file="questions.jsonl",
        noun="question",
        text_of=lambda one: one.question,
    )
    for place, question in entries:
        if question.part != part_of(question.question):
            raise ValueError(f"{place}: {question.question!r} belongs to the other part")
        fault = _find_fault(question, text_by_name)
        if fault:
            raise ValueError(f"{place}: {fault}")
        questions.append(question)
    return questions


def part_of(question: str) -> Part:
    """Say which part a question belongs to; nothing but its text decides that."""
    digest = hashlib.sha256(f"{_SPLIT_SEED} {question}".encode()).digest()
    return "held_out" if int.from_bytes(digest, "big") % 2 == 0 else "development"


def _find_fault(question: Question, text_by_name: dict[str, str]) -> str | None:
    """Say what is wrong between a question and the documents, or None."""
    if question.kind == "unanswerable":
        if question.document or question.evidence or question.answer or not question.gap:
            return "an unanswerable question has a gap, and no document, evidence or answer"
        return None
    if not question.answer or question.gap:
        return f"a question of kind {question.kind} has an answer and no gap"
    if question.document not in text_by_name:
        return f"there is no document {question.document!r}"
    return _find_fault_of_evidence(question, text_by_name[question.document])


def _find_fault_of_evidence(question: Question, text: str) -> str | None:
    num_needed = 2 if question.kind == "multi" else 1
    if len(set(question.evidence)) < num_needed:
        return f"a question of kind {question.kind} needs evidence, {num_needed} at least"
    for evidence in question.evidence:
        if not evidence or text.count(evidence) != 1:
            return f"{evidence!r} does not stand exactly once in {question.document}"
    return None

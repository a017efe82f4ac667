"""The corpus for retrieval and its questions: large enough, consistent, divided by their rule."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from typing import get_args

import pytest

from benchmarks.rag.corpus import (
    Document,
    Gap,
    Kind,
    Part,
    Question,
    load_documents,
    load_questions,
    parse_questions,
    part_of,
)
from benchmarks.unique_lines import normalised

PARTS: tuple[Part, ...] = get_args(Part)
PAGE = Document(name="page.md", text="The tower is red. It was lit in 1834.\n| V-1 | red |\n")


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return load_documents()


@pytest.fixture(scope="module")
def questions_by_part() -> dict[Part, list[Question]]:
    return {part: load_questions(part) for part in PARTS}


@pytest.fixture(scope="module")
def questions(questions_by_part: dict[Part, list[Question]]) -> list[Question]:
    return [question for part in PARTS for question in questions_by_part[part]]


def a_line(**changes: object) -> bytes:
    text = str(changes.get("question", "When was it lit?"))
    question = {
        "question": text,
        "kind": "plain",
        "part": part_of(text),
        "document": "page.md",
        "evidence": ["It was lit in 1834."],
        "answer": "1834",
    }
    return json.dumps(question | changes).encode() + b"\n"


def test_the_corpus_is_large_enough_for_a_thousand_chunks(documents: list[Document]) -> None:
    assert len(documents) >= 150
    assert sum(len(document.text.split()) for document in documents) >= 95_000


def test_documents_are_markdown_and_plain_text_of_readable_length(
    documents: list[Document],
) -> None:
    kinds = Counter(document.name.rpartition(".")[2] for document in documents)

    assert set(kinds) == {"md", "txt"}
    assert min(kinds.values()) >= 40
    assert [d.name for d in documents if not 250 <= len(d.text.split()) <= 1200] == []


def test_no_long_line_stands_in_two_documents(documents: list[Document]) -> None:
    lines_by_name = {
        document.name: {line for line in document.text.splitlines() if len(line) > 80}
        for document in documents
    }

    shared = [
        (one, other)
        for one, other in combinations(lines_by_name, 2)
        if lines_by_name[one] & lines_by_name[other]
    ]
    assert shared == []


def test_there_are_enough_questions(questions: list[Question]) -> None:
    counts = Counter(question.kind for question in questions)

    assert counts["unanswerable"] >= 50
    assert counts.total() - counts["unanswerable"] >= 130


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", get_args(Kind))
def test_each_kind_is_in_each_part(
    kind: Kind, part: Part, questions_by_part: dict[Part, list[Question]]
) -> None:
    assert sum(question.kind == kind for question in questions_by_part[part]) >= 20


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("gap", get_args(Gap))
def test_each_gap_is_in_each_part(
    gap: Gap, part: Part, questions_by_part: dict[Part, list[Question]]
) -> None:
    assert sum(question.gap == gap for question in questions_by_part[part]) >= 10


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_kind_is_divided_into_halves(kind: Kind, questions: list[Question]) -> None:
    texts = [question.question for question in questions if question.kind == kind]
    num_held_out = sum(part_of(text) == "held_out" for text in texts)

    assert 0.44 < num_held_out / len(texts) < 0.56


def test_evidence_is_verbatim_and_short_enough_for_a_chunk(
    questions: list[Question], documents: list[Document]
) -> None:
    text_by_name = {document.name: document.text for document in documents}
    pairs = [(one, passage) for one in questions for passage in one.evidence]

    assert [
        passage for one, passage in pairs if passage not in text_by_name[one.document or ""]
    ] == []
    assert max(len(passage) for _, passage in pairs) <= 330


def test_every_document_is_asked_about(
    questions: list[Question], documents: list[Document]
) -> None:
    assert {document.name for document in documents} == {one.document for one in questions} - {None}


def test_the_unanswerable_have_no_document(questions: list[Question]) -> None:
    unanswerable = [one for one in questions if one.kind == "unanswerable"]

    assert {(one.document, one.evidence, one.answer) for one in unanswerable} == {(None, (), None)}
    assert [one for one in questions if (one.gap is None) == (one.kind == "unanswerable")] == []


def test_no_question_stands_twice_in_the_parts_together(questions: list[Question]) -> None:
    counts = Counter(normalised(question.question) for question in questions)

    assert [text for text, count in counts.items() if count > 1] == []


def test_a_good_line_is_read_as_it_stands() -> None:
    [question] = parse_questions(a_line(evidence=["| V-1 | red |"], kind="identifier"), [PAGE])

    assert (question.document, question.kind, question.gap) == ("page.md", "identifier", None)
    assert (question.evidence, question.answer) == (("| V-1 | red |",), "1834")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (b"{}\n", "questions.jsonl, line 1: .*missing required field"),
        (a_line() + b"\n", "questions.jsonl, line 2: "),
        (a_line(kind="hard"), "Invalid enum value 'hard'"),
        (a_line(score=1), "unknown field `score`"),
        (a_line(question=" ?"), "' \\?' is empty"),
        (a_line() + a_line(question="when was IT lit"), "line 2: .* is the question of line 1"),
        (a_line(document="other.md"), "there is no document 'other.md'"),
        (a_line(evidence=[]), "kind plain needs evidence, 1 at least"),
        (a_line(evidence=["It was lit in 1835."]), "does not stand exactly once in page.md"),
        (a_line(evidence=["red"]), "'red' does not stand exactly once"),
        (a_line(kind="multi"), "kind multi needs evidence, 2 at least"),
        (a_line(answer=None), "kind plain has an answer and no gap"),
        (a_line(gap="fact"), "kind plain has an answer and no gap"),
        (a_line(kind="unanswerable"), "has a gap, and no document"),
    ],
)
def test_a_faulty_line_is_named(lines: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_questions(lines, [PAGE])


def test_a_question_in_the_wrong_part_is_refused() -> None:
    [wrong] = set(PARTS) - {part_of("When was it lit?")}

    with pytest.raises(ValueError, match="belongs to the other part"):
        parse_questions(a_line(part=wrong), [PAGE])

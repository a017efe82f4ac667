"""What models are told when pages are read, answers written and questions taken apart."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mm_orch.core.generation import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_PARTS = 2
MAX_PARTS = 4
MAX_PART_CHARS = 150

PARTS_SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "questions": {
                "type": "array",
                "items": {"type": "string", "maxLength": MAX_PART_CHARS},
                "minItems": MIN_PARTS,
                "maxItems": MAX_PARTS,
            }
        },
        "required": ["questions"],
        "additionalProperties": False,
    }
)
"""What the answer to :func:`ask_for_parts` must look like."""

_SUMMARY = (
    "Say in one or two short sentences what the page says about the question. Use the page's own"
    " words."
)
_ANSWER = (
    "Answer the question from the numbered notes alone, in one to three short sentences. Use their"
    " own words. After each sentence put the number of its note, as in [1]."
)
_PARTS = (
    f"Split the question into {MIN_PARTS} to {MAX_PARTS} simpler questions that can be looked up"
    " one by one. Each names what it asks about. Answer with JSON."
)
_PARTS_EXAMPLE = "Question: Which is higher, Mont Blanc or K2?"
_PARTS_EXAMPLE_ANSWER = json.dumps({"questions": ["How high is Mont Blanc?", "How high is K2?"]})
_JOIN = (
    "Answer the question from the answers to its parts, in one or two short sentences. Compare or"
    " add up what they say where the question asks for it."
)


def ask_for_summary(question: str, title: str, text: str) -> tuple[Message, ...]:
    """Return what has a model say what a page says."""
    return _ask(_SUMMARY, f"Page: {title}\n\n{text}\n\nQuestion: {question}")


def ask_for_answer(
    question: str, notes: Sequence[str], instructions: Sequence[str]
) -> tuple[Message, ...]:
    """Return what has a model answer from notes, numbered from 1; the caller's own words first."""
    numbered = "\n".join(f"[{number}] {note}" for number, note in enumerate(notes, start=1))
    return _ask("\n\n".join([*instructions, _ANSWER]), f"{numbered}\n\nQuestion: {question}")


def ask_for_parts(question: str) -> tuple[Message, ...]:
    """Return what has a model take a question apart, as :data:`PARTS_SCHEMA` says."""
    return (
        Message(role="system", content=_PARTS),
        Message(role="user", content=_PARTS_EXAMPLE),
        Message(role="assistant", content=_PARTS_EXAMPLE_ANSWER),
        Message(role="user", content=f"Question: {question}"),
    )


def ask_to_join(
    question: str, answers: Sequence[tuple[str, str]], instructions: Sequence[str]
) -> tuple[Message, ...]:
    """Return what has a model make one answer of (part, answer) pairs."""
    told = "\n".join(f"{part}\n- {answer}" for part, answer in answers)
    return _ask("\n\n".join([*instructions, _JOIN]), f"{told}\n\nQuestion: {question}")


def _ask(instructions: str, question: str) -> tuple[Message, ...]:
    return (
        Message(role="system", content=instructions),
        Message(role="user", content=question),
    )

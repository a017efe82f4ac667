"""What a lesson is: the fields of its JSON, their bounds, and the schema that is made of them.

``LESSON_SCHEMA`` is what every result of ``lesson_pack`` is valid under.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

MAX_EXERCISES = 20
MAX_SECTIONS = 3
MAX_OBJECTIVES = 3
MAX_TITLE_CHARS = 100
MAX_HEADING_CHARS = 100
MAX_OBJECTIVE_CHARS = 160
MAX_TEXT_CHARS = 600
MAX_QUESTION_CHARS = 300
MAX_ANSWER_CHARS = 200

Language = Literal["en", "zh"]
Level = Literal["general", "beginner", "intermediate", "advanced"]

# Something other than blanks, somewhere.
_FILLED = r"\S"


def _text(max_chars: int) -> Any:
    return msgspec.Meta(min_length=1, max_length=max_chars, pattern=_FILLED)


def _list(max_entries: int) -> Any:
    return msgspec.Meta(min_length=1, max_length=max_entries)


Heading = Annotated[str, _text(MAX_HEADING_CHARS)]


class Exercise(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One exercise.

    Attributes:
        kind: ``question`` is the model's own; ``gap`` is a sentence of the explanation without one
            of its words, which is the answer: made where the model gave none that could be used.
    """

    kind: Literal["question", "gap"]
    question: Annotated[str, _text(MAX_QUESTION_CHARS)]
    answer: Annotated[str, _text(MAX_ANSWER_CHARS)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the explanation."""

    heading: Heading
    text: Annotated[str, _text(MAX_TEXT_CHARS)]


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the learner can do afterwards, and the headings of what is explained, in order."""

    objectives: Annotated[
        tuple[Annotated[str, _text(MAX_OBJECTIVE_CHARS)], ...], _list(MAX_OBJECTIVES)
    ]
    sections: Annotated[tuple[Heading, ...], _list(MAX_SECTIONS)]


class Lesson(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole lesson."""

    title: Annotated[str, _text(MAX_TITLE_CHARS)]
    language: Language
    level: Level
    plan: Plan
    explanation: Annotated[tuple[Section, ...], _list(MAX_SECTIONS)]
    exercises: Annotated[tuple[Exercise, ...], _list(MAX_EXERCISES)]


LESSON_SCHEMA: dict[str, Any] = msgspec.json.schema(Lesson)
"""The JSON schema (2020-12) of a lesson."""


def write_lesson(lesson: Lesson) -> str:
    """Return a lesson as JSON text, indented for people.

    Raises:
        msgspec.ValidationError: it is not valid under the schema.
    """
    content = msgspec.json.encode(lesson)
    msgspec.json.decode(content, type=Lesson)
    return msgspec.json.format(content, indent=2).decode()

"""Writes what a model is told when it writes a piece of a lesson: an example, then the task."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mm_orch.core.generation import Message
from mm_orch.workflows.lesson_words import WORDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mm_orch.workflows.lesson_wishes import LessonWishes
    from mm_orch.workflows.lesson_words import Words

Task = tuple[Message, ...]

# Of the query: what is longer is described well enough by its beginning.
_MAX_REQUEST_CHARS = 600
# Of what a model is not to write again, the last; more would fill its mind with them.
_MAX_KNOWN = 6


def write_plan_task(wishes: LessonWishes, query: str, earlier: Sequence[str]) -> Task:
    """Return the task of planning the lesson.

    Args:
        wishes: what the lesson is to be.
        query: as the learner wrote it.
        earlier: what the learner wrote before, the oldest first.
    """
    words = WORDS[wishes.language]
    example, learners = words.example, words.learners[wishes.level]
    before = " / ".join(earlier)[:_MAX_REQUEST_CHARS]

    def ask(request: str, told: str) -> str:
        return words.task_of_plan.format(learners=learners, earlier=told, request=request)

    return _show(
        ask(example.request, ""),
        {
            "title": example.title,
            "objectives": example.objectives,
            "headings": example.headings,
        },
        ask(
            query[:_MAX_REQUEST_CHARS],
            words.earlier.format(earlier=before) if before else "",
        ),
    )


def write_section_task(
    wishes: LessonWishes, title: str, heading: str, known: Sequence[str]
) -> Task:
    """Return the task of explaining one heading, otherwise than what is known."""
    words = WORDS[wishes.language]
    example, learners = words.example, words.learners[wishes.level]

    def ask(title: str, heading: str, told: str) -> str:
        return words.task_of_section.format(
            learners=learners, title=title, heading=heading, known=told
        )

    return _show(
        ask(example.title, example.headings[0], ""),
        {"text": example.text},
        ask(title, heading, _list(words, known)),
    )


def write_exercise_task(wishes: LessonWishes, text: str, kind: int, known: Sequence[str]) -> Task:
    """Return the task of writing one exercise about a text; ``kind`` counts through the kinds."""
    words = WORDS[wishes.language]
    shown = words.example.exercises[kind % len(words.example.exercises)]

    def ask(text: str, told: str) -> str:
        return words.task_of_exercise.format(text=text, kind=shown.kind, known=told)

    return _show(
        ask(words.example.text, ""),
        {"question": shown.question, "answer": shown.answer},
        ask(text, _list(words, known)),
    )


def _show(example: str, answer: Mapping[str, object], task: str) -> Task:
    return (
        Message(role="user", content=example),
        Message(role="assistant", content=json.dumps(answer, ensure_ascii=False)),
        Message(role="user", content=task),
    )


def _list(words: Words, known: Sequence[str]) -> str:
    listed = "\n".join(f"- {one}" for one in known[-_MAX_KNOWN:])
    return words.known.format(known=listed) if listed else ""

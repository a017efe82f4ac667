"""Writes what a model is told when it writes a piece of a lesson."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.workflows.lesson_words import WORDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.workflows.lesson_wishes import LessonWishes
    from mm_orch.workflows.lesson_words import Words

# Of the query: what is longer is described well enough by its beginning.
_MAX_REQUEST_CHARS = 600
# Of what a model is not to write again, the last; more would fill its mind with them.
_MAX_KNOWN = 6


def write_plan_task(wishes: LessonWishes, query: str, earlier: Sequence[str]) -> str:
    """Return the task of planning the lesson.

    Args:
        wishes: what the lesson is to be.
        query: as the learner wrote it.
        earlier: what the learner wrote before, the oldest first.
    """
    words = WORDS[wishes.language]
    before = " / ".join(earlier)[:_MAX_REQUEST_CHARS]
    return words.task_of_plan.format(
        level=words.learners[wishes.level],
        request=query[:_MAX_REQUEST_CHARS],
        earlier=words.earlier.format(earlier=before) if before else "",
        subject=wishes.subject,
    )


def write_section_task(wishes: LessonWishes, title: str, heading: str, known: Sequence[str]) -> str:
    """Return the task of explaining one heading, otherwise than what is known."""
    words = WORDS[wishes.language]
    return words.task_of_section.format(
        level=words.learners[wishes.level],
        subject=wishes.subject,
        title=title,
        heading=heading,
        known=_list(words, known),
    )


def write_exercise_task(wishes: LessonWishes, text: str, kind: int, known: Sequence[str]) -> str:
    """Return the task of writing one exercise about a text; ``kind`` counts through the kinds."""
    words = WORDS[wishes.language]
    return words.task_of_exercise.format(
        level=words.learners[wishes.level],
        subject=wishes.subject,
        text=text,
        kind=words.kinds[kind % len(words.kinds)],
        known=_list(words, known),
    )


def _list(words: Words, known: Sequence[str]) -> str:
    listed = "\n".join(f"- {one}" for one in known[-_MAX_KNOWN:])
    return words.known.format(known=listed) if listed else ""

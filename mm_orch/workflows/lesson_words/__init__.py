"""The words of lessons, by language: read once from the tables beside this file."""

from __future__ import annotations

import tomllib
import typing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mm_orch.workflows.lesson_schema import Language, Level

if TYPE_CHECKING:
    from collections.abc import Mapping


class WishPatterns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Regular expressions for what a query says of its lesson.

    Attributes:
        exercises: how many; its first group is the number, ``<number>`` stands for one in words.
        before_subject: what a subject follows, the surest first.
        after_subject: what ends it.
        article: at its beginning, no part of it.
    """

    exercises: str
    before_subject: tuple[str, ...]
    after_subject: str
    article: str


class ExampleExercise(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An exercise of the example; its kind is how its question begins, or what it asks for."""

    kind: str
    question: str
    answer: str


class Example(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A lesson that is shown piece by piece, so that a small model sees what is wanted.

    Attributes:
        text: of the first heading.
        exercises: one of each kind, which are taken in turn.
    """

    request: str
    title: str
    objectives: tuple[str, ...]
    headings: tuple[str, ...]
    text: str
    exercises: tuple[ExampleExercise, ...]


class Words(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The words of one language.

    Attributes:
        task_of_plan, task_of_section, task_of_exercise: what a model is told.
        earlier: what the learner asked before.
        known: goes before what is not to be written again.
        example: shown before each task.
        title, objectives, headings: of a lesson whose model gave none that can be used.
        gap: the question of an exercise that is a sentence with a gap.
        learners: who a lesson of each level is for.
        levels: regular expressions that tell a level, the first that is found.
    """

    task_of_plan: str
    task_of_section: str
    task_of_exercise: str
    earlier: str
    known: str
    title: str
    objectives: tuple[str, ...]
    headings: tuple[str, ...]
    gap: str
    example: Example
    learners: dict[Level, str]
    wishes: WishPatterns
    levels: dict[Level, str]


def _load(language: Language) -> Words:
    text = (Path(__file__).parent / f"{language}.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Words)


WORDS: Mapping[Language, Words] = {one: _load(one) for one in typing.get_args(Language)}

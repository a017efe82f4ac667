"""Says what is wrong with a lesson, by a validator and by rules that are not the product's own."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import TYPE_CHECKING, Any

import jsonschema_rs

from mm_orch.workflows.lesson_schema import LESSON_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

FAULTS = ("invalid", "empty", "repeated", "unanswered", "cut")
_VALIDATOR = jsonschema_rs.validator_for(LESSON_SCHEMA)


def judge(text: str, finish_reason: str = "stop") -> dict[str, list[str]]:
    """Return the faults of a lesson by kind, one of :data:`FAULTS`; nothing for a right one.

    Args:
        text: what the workflow answered.
        finish_reason: as it was told.
    """
    found: dict[str, list[str]] = {}
    if finish_reason != "stop":
        found["cut"] = [f"it ended with {finish_reason}"]
    try:
        lesson = json.loads(text)
    except ValueError as error:
        return {**found, "invalid": [str(error)]}
    invalid = [
        f"{list(one.instance_path)}: {one.message}" for one in _VALIDATOR.iter_errors(lesson)
    ]
    if invalid:
        return {**found, "invalid": invalid}
    empty = [path for path, value in _leaves(lesson, "lesson") if not _bare(value)]
    exercises: list[dict[str, str]] = lesson["exercises"]
    questions = [_bare(one["question"]) for one in exercises]
    repeated = sorted({one for one in questions if questions.count(one) > 1})
    unanswered = [
        one["question"] for one in exercises if _bare(one["answer"]) in {"", _bare(one["question"])}
    ]
    kinds = {"empty": empty, "repeated": repeated, "unanswered": unanswered}
    return found | {kind: faults for kind, faults in kinds.items() if faults}


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    match value:
        case dict():
            for key, entry in value.items():
                yield from _leaves(entry, f"{path}.{key}")
        case list():
            for number, entry in enumerate(value):
                yield from _leaves(entry, f"{path}[{number}]")
        case _:
            yield path, str(value)


def _bare(text: str) -> str:
    """Return letters and digits alone."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).casefold())

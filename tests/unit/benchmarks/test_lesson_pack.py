"""What the benchmark of lessons calls right, and what is told of its figures."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from benchmarks.lesson_judge import FAULTS, judge
from benchmarks.lesson_pack import SUBJECTS, Made, summarise
from benchmarks.routing.labelled import load_part

LESSON: dict[str, Any] = {
    "title": "Light",
    "language": "en",
    "level": "general",
    "plan": {"objectives": ["Know light."], "sections": ["Waves"]},
    "explanation": [{"heading": "Waves", "text": "Light is a wave."}],
    "exercises": [
        {"kind": "question", "question": "What is light?", "answer": "A wave."},
        {"kind": "gap", "question": "Light is a _____.", "answer": "wave"},
    ],
}


def changed(path: str, value: object) -> str:
    lesson = copy.deepcopy(LESSON)
    *parents, last = path.split(".")
    inner: Any = lesson
    for parent in parents:
        inner = inner[int(parent) if parent.isdigit() else parent]
    inner[int(last) if last.isdigit() else last] = value
    return json.dumps(lesson)


def test_a_right_lesson_has_no_fault() -> None:
    assert judge(json.dumps(LESSON)) == {}


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("title", "", "invalid"),
        ("title", "   ", "invalid"),
        ("title", "...", "empty"),
        ("title", "x" * 101, "invalid"),
        ("language", "fr", "invalid"),
        ("exercises", [], "invalid"),
        ("exercises", LESSON["exercises"] * 11, "invalid"),
        ("exercises", LESSON["exercises"] * 2, "repeated"),
        ("exercises.1.question", "what is LIGHT", "repeated"),
        ("exercises.0.answer", "What is light...", "unanswered"),
        ("exercises.0.answer", "?", "empty"),
        ("exercises.0.more", "x", "invalid"),
        ("plan", {"objectives": ["Know light."]}, "invalid"),
    ],
)
def test_each_fault_is_found(path: str, value: object, fault: str) -> None:
    assert fault in FAULTS
    assert fault in judge(changed(path, value))


def test_what_is_cut_is_told() -> None:
    assert judge('{"title": "Li', "length").keys() == {"invalid", "cut"}


def test_a_failure_and_a_fault_are_counted_and_named() -> None:
    made = [
        Made("a", num_exercises=5, num_wanted=5, num_gaps=1, seconds=2.0),
        Made("b", faults={"empty": ["title"]}, num_exercises=3, num_wanted=5, seconds=4.0),
        Made("c", failure="broken", num_wanted=5),
    ]

    figures, faults = summarise(made)

    counts = ("num_lessons", "num_right", "num_failed", "num_empty", "num_cut", "num_gaps")
    assert [figures[one] for one in counts] == [3, 1, 1, 1, 0, 1]
    assert (figures["num_exercises"], figures["num_exercises_wanted"]) == (8, 15)
    assert faults == ["b: {'empty': ['title']}", "c: broken"]


def test_there_are_a_hundred_different_subjects_and_those_of_the_routing_set_are_lessons() -> None:
    lessons = {
        one.query: one.context
        for part in ("train", "more_train")
        for one in load_part(part)
        if one.label == "lesson_pack"
    }
    shared = [lessons[one] for one in SUBJECTS if one in lessons]

    assert len(SUBJECTS) == len(set(SUBJECTS)) == 100
    assert len(shared) == 23
    assert not any(one.has_documents for one in shared)

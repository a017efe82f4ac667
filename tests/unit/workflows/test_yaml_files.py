"""What is wrong with a workflow in YAML is told at once, and leaves the others as they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm_orch.core.errors import (
    GraphError,
    WorkflowNotFoundError,
)
from mm_orch.workflows.registry import WorkflowRegistry
from mm_orch.workflows.yaml_folder import MAX_FILE_BYTES, read_folder
from mm_orch.workflows.yaml_options import StepOptions, WorkflowOptions
from mm_orch.workflows.yaml_workflow import Surroundings, read_workflow
from tests.unit.workflows.yaml_scene import AROUND, RIGHT, weigh

if TYPE_CHECKING:
    from pathlib import Path


def faults_of(text: str, around: Surroundings = AROUND) -> list[str]:
    read = read_workflow(text, origin="f.yaml", around=around)
    assert (read.workflow is None) is bool(read.faults)
    return [str(fault) for fault in read.faults]


def test_everything_that_is_wrong_is_told_at_once() -> None:
    text = """# Line 1.
name: chat_generate
sumary: Weighs.
answer: verdikt
steps:
  pros:
    promt: hi
    prompt: "{{ questoin }}"
    max_tokens: 0
    model: smal
  call: {prompt: hi, temperature: hot}
  verdict:
    prompt: "{% if pros %}"
    needs: [pro, 3]
    deadline_s: -1
    retries: 11
  empty:
"""
    words = faults_of(text)

    origin = "(f.yaml line {})"
    assert words == [
        "summary = '(missing)' (f.yaml line 2): is required: a sentence on one line, at most 300"
        " characters.",
        f"sumary = 'Weighs.' {origin.format(3)}: is not an option of a workflow. Did you mean"
        " summary?",
        f"steps.pros.max_tokens = 0 {origin.format(9)}: must be a whole number, at least 1, or"
        " null.",
        f"steps.pros.promt = 'hi' {origin.format(7)}: is not an option of steps.pros.",
        f"steps.call.temperature = 'hot' {origin.format(11)}: must be a number from 0 to 2, or"
        " null.",
        f"steps.verdict.needs = ['pro', 3] {origin.format(14)}: must be a list, each entry a name:"
        " small letters, digits and _, a letter first, at most 64.",
        f"steps.verdict.retries = 11 {origin.format(16)}: must be a whole number from 0 to 10.",
        f"steps.verdict.deadline_s = -1 {origin.format(15)}: must be a number above 0, or null.",
        f"steps.empty = null {origin.format(17)}: must be a mapping of options.",
        f"name = 'chat_generate' {origin.format(2)}: is the name of another workflow.",
        f"steps.pros.model = 'smal' {origin.format(10)}: is no model that generates; known: large,"
        " small. Did you mean small?",
        f"steps.pros.prompt = '{{{{ questoin }}}}' {origin.format(8)}: uses questoin, which is no"
        " step; known: question, context, pros, call, verdict, empty. Did you mean question?",
        f"steps.verdict.prompt = '{{% if pros %}}' {origin.format(13)}: is no template, line 1 of"
        " it: Unexpected end of template. Jinja was looking for the following tags: 'elif' or"
        " 'else' or 'endif'. The innermost block that needs to be closed is 'if'.",
        f"steps.call = 'call' {origin.format(11)}: is a name that means something else: answer,"
        " call, confidence, context, history, keep, kept, question, services, sources.",
        f"answer = 'verdikt' {origin.format(4)}: is no step; known: pros, call, verdict, empty."
        " Did you mean verdict?",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "name = '(missing)' (f.yaml line 1): is required"),
        ("[]", "file = [] (f.yaml line 1): must be a mapping of options"),
        ("a: b: c", "line = 1 (f.yaml): is not YAML"),
        (RIGHT + "name: x\n", "name = 'x' (f.yaml line 20): is given twice, on lines 2 and 20"),
        (weigh("  {}"), "steps = 0 (f.yaml line 4): must be 1 to 32 steps"),
        (
            weigh("\n".join(f"  s{n}: {{prompt: hi}}" for n in range(33))),
            "must be 1 to 32 steps",
        ),
        (weigh("  a: {prompt: ' '}"), "must be text that is not empty, at most 50000 characters"),
        (weigh("  a: {prompt: '{{ a }}'}"), "steps wait for one another: a -> a"),
        (weigh("  a: {prompt: hi, needs: [b]}\n  b: {prompt: '{{ a }}'}"), "wait for one another"),
        (weigh("  a: {prompt: hi}\n  b: {prompt: hi}"), "step b leads nowhere"),
        (weigh("  a: {prompt: hi, optional: true}"), "writes the answer, so it cannot be optional"),
        (weigh("  a: {prompt: hi, format: {x: .nan}}"), "JSON has no such numbers"),
        (weigh("  a: {prompt: hi, format: text}"), "must be a mapping, or null"),
        (weigh("  A-b: {prompt: hi}", answer="x"), "steps.A-b = 'A-b' (f.yaml line 5): is no name"),
        (weigh("  a: {prompt: hi, needs: [b]}"), "steps.a.needs = 'b' (f.yaml line 5): is no step"),
        (weigh("  a: {prompt: '{{ x | nofilter }}'}"), "No filter named 'nofilter'"),
        (weigh("  a: {prompt: hi}").replace("weigh", "We igh", 1), "must be a name: small letters"),
    ],
)
def test_a_fault_says_where_it_is_and_what_is_allowed(text: str, words: str) -> None:
    assert words in "\n".join(faults_of(text))


def test_a_form_that_answers_cannot_be_kept_to_is_a_fault_where_that_is_asked() -> None:
    around = Surroundings(find_reason=lambda _: "it is odd")

    [fault] = faults_of(weigh("  a: {prompt: hi, format: {type: string}}"), around)

    assert fault == (
        "steps.a.format = {type: 'string'} (f.yaml line 5): is a schema that answers cannot be kept"
        " to: it is odd."
    )


# On a busy machine the first text that is drawn takes a second.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
KEYS = st.sampled_from([*StepOptions.model_fields, *WorkflowOptions.model_fields, "x"])
STEPS = st.dictionaries(st.sampled_from(["a", "b", "call", "?"]), st.dictionaries(KEYS, VALUES))


@PATIENT
@given(st.dictionaries(KEYS, VALUES, max_size=5), STEPS | VALUES)
def test_whatever_a_file_holds_it_is_a_workflow_or_its_faults_are_told(
    options: dict[str, Any], steps: Any
) -> None:
    # JSON is YAML, but for numbers that it has not; those are refused as what they are.
    text = json.dumps({**options, "steps": steps})

    read = read_workflow(text, origin="f.yaml", around=AROUND)

    assert (read.workflow is None) is bool(read.faults)


@PATIENT
@given(st.text(max_size=80))
def test_any_text_is_read_without_a_fault_of_ours(text: str) -> None:
    read = read_workflow(text, origin="f.yaml", around=AROUND)

    assert read.workflow is None
    assert read.faults


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.yaml").write_text(RIGHT)
    (tmp_path / "b.yml").write_text(weigh("  a: {prompt: hi}").replace("weigh", "plain", 1))
    (tmp_path / "broken.yaml").write_text("name: broken\n")
    (tmp_path / "lesson_pack.yaml").write_text("name: lesson_pack\n")
    (tmp_path / "again.yaml").write_text(RIGHT)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff")
    (tmp_path / "large.yaml").write_text("#" * (MAX_FILE_BYTES + 1))
    (tmp_path / "notes.txt").write_text("no workflow")
    (tmp_path / "folder.yaml").mkdir()
    return tmp_path


async def test_a_faulty_file_leaves_the_others_and_says_why_when_it_is_asked_for(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = WorkflowRegistry(read_folder(folder, models={"small", "large"}))

    usable = [one.name for one in await registry.find_usable()]
    assert {"chat_generate", "lesson_pack", "plain", "weigh"} <= set(usable)
    assert not {"broken", "bytes", "large", "folder"} & set(usable)
    for name, words in {
        "broken": "summary = '\\(missing\\)' .*broken.yaml line 1",
        "bytes": "must be UTF-8 text; byte 0 is not",
        "large": f"has more than {MAX_FILE_BYTES} bytes",
        "folder": "cannot be read: Is a directory",
    }.items():
        with pytest.raises(GraphError, match=words):
            await registry.load(name, param="model")
        assert f"The workflow {name} cannot be run" in caplog.text
    # Neither takes the name of another.
    assert "lesson_pack.yaml line 1): is the name of another workflow" in caplog.text
    assert "again.yaml line 2): is the name of another workflow" in caplog.text
    built_in = await registry.load("lesson_pack", param="model")
    assert built_in.summary.startswith("Writes a lesson")
    with pytest.raises(WorkflowNotFoundError, match="weigh"):
        await registry.load("notes", param="model")


def test_without_a_folder_there_are_none(tmp_path: Path) -> None:
    assert read_folder(tmp_path / "absent", models=()) == ()


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "workflows").write_text("")

    [found] = read_folder(tmp_path / "workflows", models=())

    assert "cannot be read: Not a directory" in str(found.outcome)

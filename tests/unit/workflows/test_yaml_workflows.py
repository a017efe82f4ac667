"""Workflows that are written in YAML: what is wrong with one is told at once, right ones answer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.core.errors import (
    DeadlineError,
    EngineFailedError,
    GraphError,
    WorkflowError,
    WorkflowNotFoundError,
)
from mm_orch.core.generation import ChatPrompt, FinishReason, GenerationOptions, Message
from mm_orch.core.guide import JsonSchemaShape
from mm_orch.storage.database import Database
from mm_orch.storage.sqlite_sessions import SqliteSessions
from mm_orch.workflows.call import WorkflowCall
from mm_orch.workflows.contract import ANSWER
from mm_orch.workflows.graph_progress import AnswerPiece
from mm_orch.workflows.prompt_step import DEFAULT_MAX_TOKENS
from mm_orch.workflows.registry import FoundWorkflow, WorkflowRegistry
from mm_orch.workflows.yaml_folder import MAX_FILE_BYTES, read_folder
from mm_orch.workflows.yaml_options import StepOptions, WorkflowOptions
from mm_orch.workflows.yaml_workflow import Surroundings, read_workflow
from tests.unit.api.scripted_generator import HOLD, ScriptedGenerator, say
from tests.unit.workflows.scene import make_workflows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.workflows.graph_runner import Outcome
    from tests.unit.api.scripted_generator import Step

AROUND = Surroundings(taken_names={"chat_generate"}, models={"small", "large"})
RIGHT = """
name: weigh
summary: Weighs a question from both sides.
answer: verdict
steps:
  pros:
    prompt: "For: {{ question }}"
    max_tokens: 60
    temperature: 0.2
  cons:
    prompt: "Against: {{ question }}"
    model: large
    optional: true
  verdict:
    system: "Go by this: {{ context }}"
    prompt: |
      {{ question }}
      {{ pros }}
      {% if cons %}But {{ cons }}{% endif %}
"""


def faults_of(text: str, around: Surroundings = AROUND) -> list[str]:
    read = read_workflow(text, origin="f.yaml", around=around)
    assert (read.workflow is None) is bool(read.faults)
    return [str(fault) for fault in read.faults]


def weigh(steps: str, answer: str = "a") -> str:
    return f"name: weigh\nsummary: Weighs.\nanswer: {answer}\nsteps:\n{steps}\n"


async def run(text: str, generator: ScriptedGenerator, **fields: Any) -> tuple[Outcome, list[str]]:
    """Run the workflow of a text; return what came of it and the pieces that it said."""
    read = read_workflow(text, origin="f.yaml", around=AROUND)
    assert read.workflow is not None, read.faults
    found = FoundWorkflow(read.workflow.name, "f.yaml", read.workflow)
    workflows = make_workflows(
        generator, SqliteSessions(Database(Path("none"))), registry=WorkflowRegistry([found])
    )
    messages = fields.pop("messages", (Message(role="user", content="Tea?"),))
    call = WorkflowCall(request_id="r", messages=messages, **fields)
    async with workflows.open(found.name, call) as opened:
        pieces = [event.text async for event in opened if isinstance(event, AnswerPiece)]
        return opened.outcome, pieces


def prompts_of(generator: ScriptedGenerator) -> list[list[str]]:
    shown = []
    for request in generator.requests:
        assert isinstance(request.prompt, ChatPrompt)
        shown.append([message.content for message in request.prompt.messages])
    return shown


async def test_steps_are_shown_what_they_use_and_the_last_one_speaks() -> None:
    generator = ScriptedGenerator(scripts=[say("cheap"), say("late"), say("Yes", ".")])
    messages = (
        Message(role="system", content="facts"),
        Message(role="user", content="Tea?"),
    )

    outcome, pieces = await run(RIGHT, generator, messages=messages)

    assert outcome.values[ANSWER].text == "Yes."
    assert pieces == ["Yes", "."]
    assert prompts_of(generator) == [
        ["For: Tea?"],
        ["Against: Tea?"],
        ["Go by this: facts", "Tea?\ncheap\nBut late"],
    ]
    assert [request.model for request in generator.requests] == [None, "large", None]


async def test_steps_that_do_not_use_one_another_run_at_the_same_time() -> None:
    are_open = asyncio.Event()
    generator = ScriptedGenerator([HOLD])
    generator.on_open = lambda: are_open.set() if generator.num_open == 2 else None

    running = asyncio.create_task(run(RIGHT, generator))
    await are_open.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert generator.num_open == 0


async def test_options_are_the_steps_own_then_the_calls_then_the_default() -> None:
    generator = ScriptedGenerator(say("x"))
    options = GenerationOptions(max_tokens=7, temperature=0.9, stop=("!",), seed=3)

    await run(RIGHT, generator, options=options)

    pros, cons, verdict = (request.options for request in generator.requests)
    assert (pros.max_tokens, pros.temperature, pros.stop) == (60, 0.2, ())
    assert (cons.max_tokens, cons.temperature, cons.stop) == (DEFAULT_MAX_TOKENS, 0.9, ())
    assert (verdict.max_tokens, verdict.temperature, verdict.stop) == (7, 0.9, ("!",))
    assert {one.seed for one in (pros, cons, verdict)} == {3}


@pytest.mark.parametrize(("call", "step", "bound"), [(7, 60, 7), (90, 60, 60), (None, 60, 60)])
async def test_the_answer_is_as_long_as_both_allow(call: int | None, step: int, bound: int) -> None:
    generator = ScriptedGenerator(say("x"))
    text = weigh(f"  a: {{prompt: hi, max_tokens: {step}}}")

    await run(text, generator, options=GenerationOptions(max_tokens=call))

    assert generator.requests[0].options.max_tokens == bound


async def test_without_an_optional_step_the_result_is_partial_and_its_variable_empty() -> None:
    broken: Sequence[Step] = [EngineFailedError("broken")]
    generator = ScriptedGenerator(scripts=[say("cheap"), broken, say("Yes.")])

    outcome, _ = await run(RIGHT, generator)

    assert [one.step for one in outcome.failed] == ["cons"]
    assert prompts_of(generator)[-1] == ["Go by this: ", "Tea?\ncheap\n"]


@pytest.mark.parametrize("number", [0, 2])
async def test_the_failure_of_any_other_step_is_the_workflows(number: int) -> None:
    scripts: list[Sequence[Step]] = [say("x"), say("x"), say("x")]
    scripts[number] = [EngineFailedError("broken")]

    with pytest.raises(EngineFailedError, match="broken"):
        await run(RIGHT, ScriptedGenerator(scripts=scripts))


async def test_a_step_is_tried_again_as_often_as_it_says() -> None:
    scripts: list[Sequence[Step]] = [[EngineFailedError("broken")], say("well")]
    generator = ScriptedGenerator(scripts=scripts)

    outcome, _ = await run(weigh("  a: {prompt: hi, retries: 1}"), generator)

    assert outcome.values[ANSWER].text == "well"


async def test_a_steps_own_deadline_ends_it() -> None:
    generator = ScriptedGenerator([HOLD])

    with pytest.raises(DeadlineError, match=r"Step a was not complete after 0\.01 s"):
        await run(weigh("  a: {prompt: hi, deadline_s: 0.01}"), generator)

    assert generator.num_open == 0


PARTS = """
  parts:
    prompt: Split it.
    format: {type: object, properties: {first: {type: string}}}
  a: {prompt: 'It begins with {{ (parts | from_json).first }}.'}
"""


async def test_a_form_is_kept_to_and_can_be_read_by_the_next_step() -> None:
    generator = ScriptedGenerator(scripts=[say('{"first": "tea"}'), say("x")])

    await run(weigh(PARTS), generator)

    guide = generator.requests[0].options.guide
    assert isinstance(guide, JsonSchemaShape)
    assert json.loads(guide.schema)["properties"] == {"first": {"type": "string"}}
    assert prompts_of(generator)[-1] == ["It begins with tea."]


@pytest.mark.parametrize(
    ("said", "reason", "words"),
    [
        ('{"first', FinishReason.LENGTH, "was cut by its max_tokens"),
        ("tea", FinishReason.STOP, "template cannot be filled in: Expecting value"),
        ("{}", FinishReason.STOP, "template cannot be filled in: 'dict object' has no attribute"),
    ],
)
async def test_what_has_lost_its_form_fails_the_step(
    said: str, reason: FinishReason, words: str
) -> None:
    generator = ScriptedGenerator(say(said, reason=reason))

    with pytest.raises(WorkflowError, match=words):
        await run(weigh(PARTS), generator)


async def test_a_template_does_not_reach_out_of_its_sandbox() -> None:
    text = weigh("  a: {prompt: '{{ question.__class__.__mro__ }}'}")

    with pytest.raises(WorkflowError, match="cannot be filled in"):
        await run(text, ScriptedGenerator(say("x")))


async def test_what_a_caller_says_is_never_a_template() -> None:
    generator = ScriptedGenerator(scripts=[say("{{ 7 * 7 }}"), say("x")])
    question = (Message(role="user", content="{{ 6 * 6 }}"),)

    await run(
        weigh("  a: {prompt: '{{ question }}{{ b }}'}\n  b: {prompt: hi}"),
        generator,
        messages=question,
    )

    assert prompts_of(generator)[-1] == ["{{ 6 * 6 }}{{ 7 * 7 }}"]


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


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
KEYS = st.sampled_from([*StepOptions.model_fields, *WorkflowOptions.model_fields, "x"])
STEPS = st.dictionaries(st.sampled_from(["a", "b", "call", "?"]), st.dictionaries(KEYS, VALUES))


@given(st.dictionaries(KEYS, VALUES), STEPS | VALUES)
def test_whatever_a_file_holds_it_is_a_workflow_or_its_faults_are_told(
    options: dict[str, Any], steps: Any
) -> None:
    # JSON is YAML, but for numbers that it has not; those are refused as what they are.
    text = json.dumps({**options, "steps": steps})

    read = read_workflow(text, origin="f.yaml", around=AROUND)

    assert (read.workflow is None) is bool(read.faults)


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

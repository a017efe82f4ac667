"""Workflows in YAML while they run: steps, their options, their failures, their templates."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.core.errors import (
    DeadlineError,
    EngineFailedError,
    WorkflowError,
)
from mm_orch.core.generation import ChatPrompt, FinishReason, GenerationOptions, Message
from mm_orch.core.guide import JsonSchemaShape
from mm_orch.storage.sql_sessions import SqlSessions
from mm_orch.storage.sqlite_database import SqliteDatabase
from mm_orch.workflows.call import WorkflowCall
from mm_orch.workflows.contract import ANSWER
from mm_orch.workflows.graph_progress import AnswerPiece
from mm_orch.workflows.prompt_step import DEFAULT_MAX_TOKENS
from mm_orch.workflows.registry import FoundWorkflow, WorkflowRegistry
from mm_orch.workflows.yaml_workflow import read_workflow
from tests.unit.api.scripted_generator import HOLD, ScriptedGenerator, say
from tests.unit.workflows.scene import make_workflows
from tests.unit.workflows.yaml_scene import AROUND, RIGHT, weigh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.workflows.graph_runner import Outcome
    from tests.unit.api.scripted_generator import Step


async def run(text: str, generator: ScriptedGenerator, **fields: Any) -> tuple[Outcome, list[str]]:
    """Run the workflow of a text; return what came of it and the pieces that it said."""
    read = read_workflow(text, origin="f.yaml", around=AROUND)
    assert read.workflow is not None, read.faults
    found = FoundWorkflow(read.workflow.name, "f.yaml", read.workflow)
    workflows = make_workflows(
        generator, SqlSessions(SqliteDatabase(Path("none"))), registry=WorkflowRegistry([found])
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

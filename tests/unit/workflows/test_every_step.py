"""Every step of every workflow, failed in turn and left in turn: what is told, kept and freed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import MuAIError
from mm_orch.workflows.contract import ANSWER
from mm_orch.workflows.graph_progress import AnswerPiece
from tests.unit.workflows.every_workflow import (
    NEEDS,
    fail_after,
    fail_before,
    find_all,
    open_scene,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mm_orch.workflows.contract import Workflow
    from mm_orch.workflows.graph import Graph
    from mm_orch.workflows.graph_runner import Outcome
    from mm_orch.workflows.graph_state import StepContext
    from mm_orch.workflows.graph_step import Step, StepFunction
    from tests.unit.workflows.every_workflow import Scene

WORKFLOWS = find_all()
STEPS = [
    pytest.param(workflow, step, id=f"{workflow.name}-{step.name}")
    for workflow in WORKFLOWS
    for step in workflow.graph.steps
]
# Without these there is nothing that could be told. Every other step, a new one too, is done
# without.
NEEDED = {
    # What the model is shown; what it says.
    "chat_generate": {"window", "answer"},
    # Its draft may be told only by the step that says the answer.
    "cascade": {"window", "answer"},
    # Passages that nobody has judged to answer are no answer.
    "rag_qa": {"look", "gather", "judge", "answer"},
    "search_qa": {"answer"},
    "self_ask_search_qa": {"parts", "tell"},
    # A lesson without an explanation is none.
    "lesson_pack": {"begin", "explain", "assemble"},
    "self_description": {"describe"},
}


def test_each_workflow_is_tried() -> None:
    assert {one.name for one in WORKFLOWS} == set(NEEDS) == set(NEEDED)


def find_skipped(graph: Graph, failed: Step) -> set[str]:
    """Return the steps that need what a failed one would have written."""
    lost, skipped = set(failed.outputs), set[str]()
    while more := [
        one for one in graph.steps if lost & set(one.inputs) and one.name not in skipped
    ]:
        skipped |= {one.name for one in more}
        lost |= {slot for one in more for slot in one.outputs}
    return skipped


async def play(scene: Scene) -> tuple[Outcome | MuAIError, str]:
    """Return what has come of the run, and what was said where it has ended well."""
    try:
        async with scene.workflows.open(scene.workflow.name, scene.call) as run:
            said = [event.text async for event in run if isinstance(event, AnswerPiece)]
    except MuAIError as error:
        return error, ""
    return run.outcome, "".join(said)


async def check_partial(
    scene: Scene, step: Step, outcome: Outcome, said: str, *, is_kept: bool
) -> None:
    assert [one.step for one in outcome.failed] == [step.name]
    assert set(outcome.skipped) == find_skipped(scene.workflow.graph, step)
    answer = outcome.values[ANSWER].text
    assert said == answer
    assert answer.strip()
    assert (scene.end.status, scene.end.is_partial) == ("success", True)
    assert await scene.turns() == ([(scene.call.question, answer)] if is_kept else [])


async def check_failed(scene: Scene, step: Step, error: MuAIError) -> None:
    assert error.message == "It broke." or step.name in error.message
    assert (scene.end.status, scene.end.error_type) == ("error", type(error).__name__)
    assert await scene.turns() == []


@pytest.mark.parametrize("spoil", [fail_before, fail_after])
@pytest.mark.parametrize(("workflow", "step"), STEPS)
async def test_a_step_that_fails_costs_what_it_gives_or_is_told_as_the_reason(
    workflow: Workflow, step: Step, spoil: Callable[[Step], StepFunction], tmp_path: Path
) -> None:
    async with open_scene(workflow, step.name, spoil, tmp_path) as scene:
        result, said = await play(scene)

        assert scene.outcome_by_step[step.name] == "failed"
        if step.name in NEEDED[workflow.name]:
            assert isinstance(result, MuAIError)
            await check_failed(scene, step, result)
        else:
            assert not isinstance(result, MuAIError)
            # What was told is a turn of the session, unless it could not even begin to be one.
            is_kept = step.name != "keep" or spoil is fail_after
            await check_partial(scene, step, result, said, is_kept=is_kept)
        scene.check_over()


@pytest.mark.parametrize(("workflow", "step"), STEPS)
async def test_who_leaves_in_any_step_ends_the_run_and_all_that_it_holds(
    workflow: Workflow, step: Step, tmp_path: Path
) -> None:
    has_begun = asyncio.Event()

    def hold(_: Step) -> StepFunction:
        async def run(_: StepContext) -> None:
            has_begun.set()
            await asyncio.Event().wait()

        return run

    async with open_scene(workflow, step.name, hold, tmp_path) as scene:
        async with scene.workflows.open(workflow.name, scene.call) as run:
            reading = asyncio.create_task(run.complete())
            async with asyncio.timeout(20):
                await has_begun.wait()
        with pytest.raises(asyncio.CancelledError):
            await reading

        assert scene.end.status == "cancelled"
        assert scene.outcome_by_step[step.name] == "cancelled"
        assert await scene.turns() == []
        scene.check_over()

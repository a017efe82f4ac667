"""What a workflow tells beside its answer, as the native API writes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_orch.api.schemas.workflow_answers import QueryAnswer
from mm_orch.api.workflow_format import write_progress, write_result
from mm_orch.consciousness.confidence import Confidence
from mm_orch.core.generation import FinishReason
from mm_orch.storage.sql_sessions import SqlSessions
from mm_orch.storage.sqlite_database import SqliteDatabase
from mm_orch.workflows.contract import ANSWER, CONFIDENCE, INPUTS, SOURCES, Source, Workflow
from mm_orch.workflows.generating import GeneratedText
from mm_orch.workflows.graph import Graph
from mm_orch.workflows.graph_step import Step
from mm_orch.workflows.registry import WorkflowRegistry
from tests.unit.api.face import assert_fits
from tests.unit.api.scripted_generator import ScriptedGenerator
from tests.unit.workflows.scene import make_workflows
from tests.unit.workflows.test_chat_generate import make_call

if TYPE_CHECKING:
    from mm_orch.workflows.graph_state import Slot, StepContext
    from mm_orch.workflows.running import Workflows


async def _answer(context: StepContext) -> None:
    context.put(
        ANSWER, GeneratedText(text="Blue", model="", engine="", finish_reason=FinishReason.STOP)
    )
    context.put(SOURCES, (Source("The sky is blue.", 0.75, {"page": 3}), Source("Sky", 0.5)))
    context.put(CONFIDENCE, 0.9)


def _make_workflows(step: Step, *results: Slot[Any]) -> Workflows:
    registry = WorkflowRegistry()
    registry._targets["found"] = "here:FOUND"
    registry._found["found"] = Workflow(
        summary="Knows.",
        graph=Graph(name="found", inputs=INPUTS, steps=(step,), answer=ANSWER, results=results),
    )
    store = SqlSessions(SqliteDatabase(Path("/dev/null/none")))
    return make_workflows(ScriptedGenerator(), store, registry=registry)


async def test_sources_and_confidence_are_told_where_a_workflow_writes_them() -> None:
    step = Step(name="answer", run=_answer, outputs=(ANSWER, SOURCES, CONFIDENCE))
    workflows = _make_workflows(step, SOURCES, CONFIDENCE)

    async with workflows.open("found", make_call("Which colour?")) as run:
        await run.complete()
        told = write_result(run, request_id="r", processing_s=0.5)

    assert_fits(told, QueryAnswer)
    assert told["metadata"]["sources"] == [
        {"content": "The sky is blue.", "score": 0.75, "metadata": {"page": 3}},
        {"content": "Sky", "score": 0.5, "metadata": {}},
    ]
    assert told["metadata"]["confidence"] == 0.9
    assert (told["metadata"]["calibrated"], told["metadata"]["unsure"]) == (False, None)


async def test_without_a_confidence_nothing_is_said_of_its_calibration() -> None:
    async def answer(context: StepContext) -> None:
        text = GeneratedText(text="Blue", model="", engine="", finish_reason=FinishReason.STOP)
        context.put(ANSWER, text)

    workflows = _make_workflows(Step(name="answer", run=answer, outputs=(ANSWER,)))

    async with workflows.open("found", make_call("Which colour?")) as run:
        await run.complete()
        metadata = write_result(run, request_id="r", processing_s=0.5)["metadata"]

    assert (metadata["confidence"], metadata["calibrated"]) == (None, None)


async def test_an_answers_own_confidence_and_what_steps_say_are_told() -> None:
    async def answer(context: StepContext) -> None:
        context.remark = "Asked nobody."
        text = GeneratedText(
            text="Blue",
            model="",
            engine="",
            finish_reason=FinishReason.STOP,
            confidence=Confidence(value=0.25, is_calibrated=True, is_unsure=True),
        )
        context.put(ANSWER, text)

    workflows = _make_workflows(Step(name="answer", run=answer, outputs=(ANSWER,)))

    async with workflows.open("found", make_call("Which colour?")) as run:
        told = [write_progress(event) async for event in run]
        result = write_result(run, request_id="r", processing_s=0.5)

    assert_fits(result, QueryAnswer)
    metadata = result["metadata"]
    assert (metadata["confidence"], metadata["calibrated"], metadata["unsure"]) == (
        0.25,
        True,
        True,
    )
    assert metadata["remarks"] == [{"step": "answer", "message": "Asked nobody."}]
    assert b'"message":"Asked nobody."' in told[-1]

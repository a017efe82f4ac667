"""Workflows that come with other packages, right ones and wrong ones."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from mm_orch.core.errors import GraphError, WorkflowError, WorkflowNotFoundError
from mm_orch.core.generation import ChatPrompt, FinishReason, GenerationRequest, Message
from mm_orch.storage.sql_sessions import SqlSessions
from mm_orch.storage.sqlite_database import SqliteDatabase
from mm_orch.workflows.as_models import ModelsAndWorkflows
from mm_orch.workflows.contract import ANSWER, Workflow
from mm_orch.workflows.graph import Graph
from mm_orch.workflows.registry import WorkflowRegistry
from tests.unit.api.scripted_generator import ScriptedGenerator
from tests.unit.workflows.scene import make_workflows
from tests.unit.workflows.scripted_steps import make_graph, make_step
from tests.unit.workflows.test_chat_generate import make_call

GUIDE = Path(__file__).parents[3] / "docs/workflows.md"
MODULE = """
from mm_orch.core.generation import FinishReason
from mm_orch.workflows.contract import ANSWER, CALL, INPUTS, Workflow
from mm_orch.workflows.generating import GeneratedText
from mm_orch.workflows.graph import Graph
from mm_orch.workflows.graph_step import Step


async def shout(context):
    text = GeneratedText(
        text=context[CALL].question.upper(), model="", engine="", finish_reason=FinishReason.STOP
    )
    context.put(ANSWER, text)


SHOUT = Workflow(
    summary="Says the question aloud.",
    graph=Graph(
        name="shout",
        inputs=INPUTS,
        steps=(Step(name="shout", run=shout, inputs=(CALL,), outputs=(ANSWER,)),),
        answer=ANSWER,
    ),
)
"""
LEAVING = """
import os, threading
os.environ["IMPORTS"] = os.environ.get("IMPORTS", "") + threading.current_thread().name + ","
raise SystemExit("secret")
"""
ENTRY_POINTS = """
[mm_orch.workflows]
shout = loud_workflows:SHOUT
quiet = loud_workflows:QUIET
absent = no_such_module:THING
broken = broken_workflows:THING
leaving = leaving_workflows:THING
renamed = loud_workflows:SHOUT
number = math:pi
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkflowRegistry:
    (tmp_path / "loud_workflows.py").write_text(MODULE)
    (tmp_path / "broken_workflows.py").write_text("def")
    (tmp_path / "leaving_workflows.py").write_text(LEAVING)
    facts = tmp_path / "loud_workflows-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: loud-workflows\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return WorkflowRegistry()


async def test_a_plug_in_is_found_by_its_entry_point_and_answers(
    installed: WorkflowRegistry, tmp_path: Path
) -> None:
    store = SqlSessions(SqliteDatabase(tmp_path / "none"))
    workflows = make_workflows(ScriptedGenerator(), store, registry=installed)
    async with workflows.open("shout", make_call("hello")) as run:
        outcome = await run.complete()

    assert outcome.values[ANSWER].text == "HELLO"
    assert {"absent", "chat_generate", "shout"} < set(installed.names)


async def test_the_example_of_the_documentation_answers(tmp_path: Path) -> None:
    [example] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    module: dict[str, Any] = {}
    exec(example, module)  # noqa: S102 - our own page
    registry = WorkflowRegistry()
    registry._found["plain"] = registry._targets["plain"] = module["PLAIN"]
    store = SqlSessions(SqliteDatabase(tmp_path / "none"))
    workflows = make_workflows(ScriptedGenerator(), store, registry=registry)

    async with workflows.open("plain", make_call("hello")) as run:
        outcome = await run.complete()

    assert outcome.values[ANSWER].text == "Hello world"


async def test_one_that_says_nothing_on_its_way_gives_its_answer_whole_as_a_model(
    installed: WorkflowRegistry, tmp_path: Path
) -> None:
    store = SqlSessions(SqliteDatabase(tmp_path / "none"))
    workflows = make_workflows(ScriptedGenerator(), store, registry=installed)
    request = GenerationRequest(
        request_id="r",
        prompt=ChatPrompt((Message(role="user", content="hello"),)),
        model="workflow/shout",
    )

    async with ModelsAndWorkflows(ScriptedGenerator(), workflows).open(request) as generation:
        deltas = [delta async for delta in generation]

    assert [(delta.text, delta.finish_reason) for delta in deltas] == [("HELLO", FinishReason.STOP)]
    assert (generation.model, generation.usage.num_generated_tokens) == ("workflow/shout", 0)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("quiet", "cannot be imported: .*QUIET"),
        ("absent", "cannot be imported: No module named 'no_such_module'"),
        ("broken", "cannot be imported: SyntaxError"),
        ("leaving", "cannot be imported: SystemExit"),
        ("renamed", "loud_workflows:SHOUT is no workflow that is named renamed"),
        ("number", "math:pi is no workflow that is named number"),
    ],
)
async def test_a_plug_in_that_cannot_be_used_says_why_and_the_others_work(
    installed: WorkflowRegistry, name: str, words: str
) -> None:
    with pytest.raises(WorkflowError, match=words):
        await installed.load(name, param="workflow_type")

    found = await installed.load("chat_generate", param="workflow_type")
    assert found.name == "chat_generate"


async def test_those_that_cannot_be_used_are_left_out_and_tried_and_logged_once(
    installed: WorkflowRegistry,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IMPORTS", "")
    store = SqlSessions(SqliteDatabase(tmp_path / "none"))
    workflows = make_workflows(ScriptedGenerator(), store, registry=installed)

    for _ in range(2):
        usable = [one.name for one in await workflows.list_all()]
        assert {"chat_generate", "shout"} <= set(usable)
        assert not {"absent", "broken", "leaving", "number", "quiet", "renamed"} & set(usable)

    assert caplog.text.count("No module named 'no_such_module'") == 1
    [thread] = os.environ["IMPORTS"].split(",")[:-1]
    # Not where everything else would wait for it.
    assert thread != threading.main_thread().name


async def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(WorkflowNotFoundError, match="No workflow is named 'x'") as refused:
        await WorkflowRegistry().load("x", param="model")

    assert refused.value.param == "model"


def test_a_graph_that_reads_or_answers_something_else_is_no_workflow() -> None:
    with pytest.raises(GraphError) as refused:
        Workflow(summary="", graph=make_graph(make_step("answer")))

    assert refused.value.faults == [
        "its input question (str) is not known; known: call, history, services",
        "its answer is answer (str); it must be answer (GeneratedText)",
    ]


async def test_built_in_workflows_have_a_summary() -> None:
    registry = WorkflowRegistry()

    for name in registry.names:
        workflow = await registry.load(name, param="model")
        assert workflow.summary.endswith(".")
        assert isinstance(workflow.graph, Graph)

"""Runs that ask a model more than once, through the whole path but HTTP, on the echo engine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from mm_orch.app import open_runtime
from mm_orch.config import load_config
from mm_orch.core.errors import DrainingError, OverloadError, QueueFullError
from mm_orch.core.generation import GenerationOptions, Message
from mm_orch.workflows.call import WorkflowCall
from mm_orch.workflows.contract import ANSWER, CALL, INPUTS, SERVICES, Workflow
from mm_orch.workflows.generating import GeneratedText
from mm_orch.workflows.graph import Graph
from mm_orch.workflows.graph_state import Slot
from mm_orch.workflows.graph_step import Step

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mm_orch.app import Runtime
    from mm_orch.workflows.graph_state import StepContext
    from mm_orch.workflows.run import WorkflowRun

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("builtin_model")]

DRAFT = Slot("draft", GeneratedText)


class Twice:
    """A workflow that asks the model, waits to be let on, and asks it again."""

    def __init__(self) -> None:
        self.has_drafted = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def draft(self, context: StepContext) -> None:
        context.put(DRAFT, await _ask(context))
        self.has_drafted.set()

    async def answer(self, context: StepContext) -> None:
        await self.may_go_on.wait()
        context.put(ANSWER, await _ask(context))

    def make(self) -> Workflow:
        draft = Step(name="draft", run=self.draft, inputs=(CALL, SERVICES), outputs=(DRAFT,))
        answer = Step(
            name="answer", run=self.answer, inputs=(CALL, SERVICES, DRAFT), outputs=(ANSWER,)
        )
        return Workflow(
            summary="Asks twice.",
            graph=Graph(name="twice", inputs=INPUTS, steps=(draft, answer), answer=ANSWER),
        )


async def _ask(context: StepContext) -> GeneratedText:
    return await context[SERVICES].models.answer(
        context[CALL].messages, say=_ignore, timeout_s=context.remaining_s()
    )


async def _ignore(_: str) -> None: ...


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    config = load_config(path=None, environ={}, overrides={}).config
    async with open_runtime(config, engine="echo") as opened:
        yield opened


@pytest.fixture
def twice(runtime: Runtime) -> Twice:
    made = Twice()
    registry = runtime.workflows._registry
    registry._targets["twice"] = "here:TWICE"
    registry._found["twice"] = made.make()
    return made


def make_call(**fields: object) -> WorkflowCall:
    return WorkflowCall(
        request_id="r",
        messages=(Message(role="user", content="Hello there"),),
        options=GenerationOptions(max_tokens=5),
        timeout_s=60,
        **fields,  # type: ignore[arg-type]  # by name
    )


async def assert_refused(runtime: Runtime, kind: type[OverloadError]) -> None:
    with pytest.raises(kind):
        async with runtime.workflows.open("twice", make_call()):
            pass


async def finish(run: WorkflowRun) -> None:
    outcome = await run.complete()
    assert outcome.values[ANSWER].text == outcome.values[DRAFT].text != ""
    assert len(run.models.generations) == 2


async def test_a_run_that_was_let_in_goes_on_while_the_queue_is_full(
    runtime: Runtime, twice: Twice
) -> None:
    async with runtime.workflows.open("twice", make_call()) as run:
        await twice.has_drafted.wait()
        # So that any number that waits is too many.
        runtime.orchestrator._admission.queue_capacity = 0
        await assert_refused(runtime, QueueFullError)
        twice.may_go_on.set()
        await finish(run)


async def test_a_run_that_was_let_in_goes_on_while_the_server_drains_which_waits_for_it(
    runtime: Runtime, twice: Twice
) -> None:
    async with runtime.workflows.open("twice", make_call()) as run:
        await twice.has_drafted.wait()
        runtime.orchestrator.begin_drain()
        await assert_refused(runtime, DrainingError)
        idle = asyncio.create_task(runtime.orchestrator.wait_until_idle())
        await asyncio.sleep(0)
        # No request is under way now, but the run is.
        assert not idle.done()
        twice.may_go_on.set()
        await finish(run)
        assert not idle.done()
    await idle


async def test_a_run_that_is_broken_off_asks_for_no_more(runtime: Runtime, twice: Twice) -> None:
    async with runtime.workflows.open("twice", make_call()) as run:
        await twice.has_drafted.wait()
        runtime.orchestrator.begin_drain(is_final=True)
        runtime.orchestrator.break_off_all()
        twice.may_go_on.set()
        with pytest.raises(DrainingError):
            await run.complete()


async def test_measuring_a_conversation_begins_to_load_its_model(runtime: Runtime) -> None:
    meter = await runtime.orchestrator.find_meter(None)

    assert meter.context_length == 8192
    assert runtime.manager._residents.find(runtime.router.default_model) is not None


@pytest.mark.parametrize("context_length", [100, None])
async def test_of_a_server_elsewhere_the_configured_context_bounds_what_is_shown(
    context_length: int | None,
) -> None:
    # Nothing listens there, and nothing is asked.
    entry = {"source": "openai:http://127.0.0.1:9/v1", "context_length": context_length}
    overrides = {f"models.far.{key}": value for key, value in entry.items() if value}
    config = load_config(path=None, environ={}, overrides=overrides).config
    async with open_runtime(config) as runtime:
        meter = await runtime.orchestrator.find_meter("far")

    assert meter.context_length == context_length
    # A token for three bytes, and some around each message.
    assert meter.count([Message(role="user", content="word" * 30)]) == 44

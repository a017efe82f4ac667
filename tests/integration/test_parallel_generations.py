"""Several generations of one run at the same time, through the whole path but HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from mm_orch.app import open_runtime
from mm_orch.config import load_config
from mm_orch.core.generation import GenerationOptions, Message
from mm_orch.workflows.call import WorkflowCall
from mm_orch.workflows.contract import ANSWER, CALL, INPUTS, SERVICES, Workflow
from mm_orch.workflows.graph import Graph
from mm_orch.workflows.graph_state import Slot
from mm_orch.workflows.graph_step import Step

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mm_orch.app import Runtime
    from mm_orch.workflows.generating import GeneratedText
    from mm_orch.workflows.graph_state import StepContext

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("builtin_model")]

TEXTS = ("alpha beta gamma", "one two three four", "red green blue")
LEFT = Slot("left", tuple)


async def ask(context: StepContext, text: str, max_tokens: int = 100) -> GeneratedText:
    return await context[SERVICES].models.answer(
        (Message(role="system", content=text), Message(role="user", content="Yes?")),
        timeout_s=context.remaining_s(),
        options=GenerationOptions(max_tokens=max_tokens),
    )


async def ask_all(context: StepContext) -> None:
    said = await asyncio.gather(*(ask(context, text) for text in TEXTS))
    context.put(LEFT, tuple(said))


async def answer(context: StepContext) -> None:
    context.put(ANSWER, await ask(context, TEXTS[0]))


MANY = Workflow(
    summary="Asks three times at once in one step, and beside it in another.",
    graph=Graph(
        name="many",
        inputs=INPUTS,
        steps=(
            Step(name="ask_all", run=ask_all, inputs=(CALL, SERVICES), outputs=(LEFT,)),
            Step(name="answer", run=answer, inputs=(CALL, SERVICES), outputs=(ANSWER,)),
        ),
        answer=ANSWER,
        results=(LEFT,),
    ),
)


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    config = load_config(path=None, environ={}, overrides={}).config
    async with open_runtime(config, engine="echo") as opened:
        opened.workflows._registry._targets["many"] = "here:MANY"
        opened.workflows._registry._found["many"] = MANY
        yield opened


async def test_each_generation_of_a_run_gets_its_own_text_and_all_are_counted(
    runtime: Runtime,
) -> None:
    call = WorkflowCall(
        request_id="same",
        messages=(Message(role="user", content="Hello"),),
        timeout_s=60,
        conversation_id="one",
    )

    # Runs of the same request id beside one another, as a client may send them.
    async with (
        runtime.workflows.open("many", call) as first,
        runtime.workflows.open("many", call) as second,
    ):
        outcomes = await asyncio.gather(first.complete(), second.complete())

    for outcome, run in zip(outcomes, (first, second), strict=True):
        said = outcome.values[LEFT]
        # The echo says the prompt back, up to the end of its first message.
        assert all(text in one.text for text, one in zip(TEXTS, said, strict=True))
        assert TEXTS[0] in outcome.values[ANSWER].text
        assert len(run.models.generations) == 4
        assert run.models.usage.num_generated_tokens == sum(
            generation.usage.num_generated_tokens for generation in run.models.generations
        )
    assert runtime.orchestrator._admission.num_running == 0
    assert runtime.orchestrator._admission.num_waiting == 0

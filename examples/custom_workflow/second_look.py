"""A workflow in one file: a draft, two looks at it side by side, and an answer that uses both.

    pip install ./examples/custom_workflow
    muai --workflow second_look "Why is the sky blue?"

A server that is started then answers with it as `model: "workflow/second_look"`, over `/api/query`,
and lists it under `/api/workflows`. See `mm_orch.workflows.contract` for what a step may use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.generation import GenerationOptions, Message
from mm_orch.workflows.contract import ANSWER, CALL, INPUTS, SERVICES, Workflow
from mm_orch.workflows.graph import Graph
from mm_orch.workflows.graph_state import Slot
from mm_orch.workflows.graph_step import Step

if TYPE_CHECKING:
    from mm_orch.workflows.graph_state import StepContext

DRAFT = Slot("draft", str)
MISSING = Slot("missing", str)
UNCLEAR = Slot("unclear", str)
# Of what is no answer yet; the answer itself is as long as the call wants.
SHORT = GenerationOptions(max_tokens=120)


async def draft(context: StepContext) -> None:
    """Answer once, for nobody but the next steps."""
    text = await context[SERVICES].models.answer(
        context[CALL].messages, options=SHORT, timeout_s=context.remaining_s()
    )
    context.put(DRAFT, text.text)


async def find_missing(context: StepContext) -> None:
    """Ask what the draft leaves out."""
    context.put(MISSING, await _ask(context, "Name one thing that this answer leaves out:"))


async def find_unclear(context: StepContext) -> None:
    """Ask what is hard to understand in the draft."""
    context.put(UNCLEAR, await _ask(context, "Name one thing that is hard to understand here:"))


async def improve(context: StepContext) -> None:
    """Answer again with both remarks in sight; this is what callers see, as it comes."""
    remarks = f"Add: {context[MISSING]}\nMake clearer: {context[UNCLEAR]}"
    text = await context[SERVICES].models.answer(
        (
            *context[CALL].messages,
            Message(role="assistant", content=context[DRAFT]),
            Message(role="user", content=f"Write the answer once more.\n{remarks}"),
        ),
        say=context.say,
        timeout_s=context.remaining_s(),
    )
    context.put(ANSWER, text)


async def _ask(context: StepContext, request: str) -> str:
    text = await context[SERVICES].models.answer(
        (Message(role="user", content=f"{request}\n\n{context[DRAFT]}"),),
        options=SHORT,
        timeout_s=context.remaining_s(),
    )
    return text.text


SECOND_LOOK = Workflow(
    summary="Answers, looks at the answer from two sides, and answers again.",
    graph=Graph(
        name="second_look",
        inputs=INPUTS,
        steps=(
            Step(name="draft", run=draft, inputs=(CALL, SERVICES), outputs=(DRAFT,)),
            # Neither waits for the other, so both run at the same time.
            Step(
                name="find_missing", run=find_missing, inputs=(DRAFT, SERVICES), outputs=(MISSING,)
            ),
            Step(
                name="find_unclear", run=find_unclear, inputs=(DRAFT, SERVICES), outputs=(UNCLEAR,)
            ),
            Step(
                name="improve",
                run=improve,
                inputs=(CALL, SERVICES, DRAFT, MISSING, UNCLEAR),
                outputs=(ANSWER,),
            ),
        ),
        answer=ANSWER,
    ),
)

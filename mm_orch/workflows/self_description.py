"""Says what the system is and can do, by what is so now; no model is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.errors import NotServedError
from mm_orch.core.generation import FinishReason
from mm_orch.workflows.contract import ANSWER, CALL, INPUTS, KEPT, SERVICES, Workflow
from mm_orch.workflows.generating import GeneratedText
from mm_orch.workflows.graph import Graph
from mm_orch.workflows.graph_step import Step
from mm_orch.workflows.keeping import KEEP

if TYPE_CHECKING:
    from mm_orch.workflows.graph_state import StepContext


async def describe(context: StepContext) -> None:
    """Put the facts into words."""
    advisor = context[SERVICES].advisor
    if advisor is None:
        raise NotServedError(
            "Nothing here knows the system itself: consciousness.enabled is false.",
            remedy="Set it to true and start the server again.",
        )
    text = await advisor.describe(context[CALL].question)
    await context.say(text)
    context.put(
        ANSWER, GeneratedText(text=text, model="", engine="", finish_reason=FinishReason.STOP)
    )


SELF_DESCRIPTION = Workflow(
    summary="Says what this system is and can do now: facts, without asking a model.",
    graph=Graph(
        name="self_description",
        inputs=INPUTS,
        steps=(
            Step(name="describe", run=describe, inputs=(CALL, SERVICES), outputs=(ANSWER,)),
            KEEP,
        ),
        answer=ANSWER,
        results=(KEPT,),
    ),
)

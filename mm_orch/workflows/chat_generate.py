"""Holds a conversation: shows the model the last turns that fit, and keeps the new one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mm_orch.workflows.contract import ANSWER, CALL, HISTORY, INPUTS, KEPT, SERVICES, Workflow
from mm_orch.workflows.doubt import admit_doubt
from mm_orch.workflows.graph import Graph
from mm_orch.workflows.graph_state import Slot
from mm_orch.workflows.graph_step import Step
from mm_orch.workflows.keeping import KEEP
from mm_orch.workflows.window import (
    Conversation,
    find_budget,
    fit_window,
    group_turns,
    split_turns,
)

if TYPE_CHECKING:
    from mm_orch.core.generation import Message
    from mm_orch.workflows.graph_state import StepContext

PROMPT: Slot[tuple[Message, ...]] = Slot("prompt", tuple)
"""What the model is shown."""


async def choose_window(context: StepContext) -> None:
    """Put the conversation together, with as many of its last turns as the model can take."""
    call, services = context[CALL], context[SERVICES]
    asked, history = split_turns(call.messages), context[HISTORY]
    conversation = Conversation(
        system=asked.system,
        turns=(*group_turns(history), *asked.turns),
        question=asked.question,
    )
    meter = await services.meters.find_meter(call.model)
    budget = find_budget(
        meter.context_length,
        max_tokens=call.options.max_tokens,
        window_tokens=services.window_tokens,
    )
    if budget is None:
        context.put(PROMPT, conversation.with_last(len(conversation.turns)))
        return
    context.put(PROMPT, await asyncio.to_thread(fit_window, conversation, meter, budget))


async def answer(context: StepContext) -> None:
    """Have the model answer, piece by piece."""
    services = context[SERVICES]
    text = await services.models.answer(
        context[PROMPT],
        say=context.say,
        think=context.think,
        timeout_s=context.remaining_s(),
        is_gauged=services.tells_confidence,
    )
    context.put(ANSWER, await admit_doubt(context, text))


WINDOW = Step(name="window", run=choose_window, inputs=(CALL, HISTORY, SERVICES), outputs=(PROMPT,))
"""Writes what the model is shown."""

CHAT_GENERATE = Workflow(
    summary="Answers as a conversation that may be stored and goes on, whatever its length.",
    follows_mood=True,
    graph=Graph(
        name="chat_generate",
        inputs=INPUTS,
        steps=(
            WINDOW,
            Step(name="answer", run=answer, inputs=(PROMPT, SERVICES), outputs=(ANSWER,)),
            KEEP,
        ),
        answer=ANSWER,
        results=(KEPT,),
    ),
)

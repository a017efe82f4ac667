"""What a model is shown of passages, and what the answer says around what is quoted of them."""

from __future__ import annotations

import asyncio
from itertools import accumulate
from typing import TYPE_CHECKING

from mm_orch.core.generation import Message
from mm_orch.orchestration.measuring import guess_tokens
from mm_orch.workflows.window import find_budget, find_most

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.storage.documents import Passage
    from mm_orch.workflows.call import WorkflowCall
    from mm_orch.workflows.contract import Services

REFUSAL = "Your documents do not answer this: no passage in them says what you ask for."

_INSTRUCTIONS = (
    "Answer the question from the numbered passages alone, in one or two short sentences."
    " Use their own words. After each sentence put the number of its passage, as in [1]."
)
_QUESTION = "{passages}\n\nQuestion: {question}"


async def make_prompt(
    call: WorkflowCall, services: Services, passages: Sequence[Passage], *, max_tokens: int
) -> tuple[Message, ...]:
    """Return the conversation that has a model answer, with the first passages that fit.

    There is always one of them: who takes the prompt says when even that is too long.

    Args:
        call: what is asked.
        services: of the run.
        passages: the best first; they are numbered in this order.
        max_tokens: of the answer.
    """
    meter = await services.meters.find_meter(call.model)
    budget = find_budget(
        meter.context_length, max_tokens=max_tokens, window_tokens=services.window_tokens
    )
    if budget is None:
        return show(call, passages)
    guesses = list(
        accumulate(
            (guess_tokens(_messages_of(one)) for one in passages),
            initial=guess_tokens(show(call, ())),
        )
    )
    num_fitting = await asyncio.to_thread(
        find_most, guesses, lambda num: meter.count(show(call, passages[:num])), budget
    )
    return show(call, passages[: max(1, num_fitting)])


def show(call: WorkflowCall, passages: Sequence[Passage]) -> tuple[Message, ...]:
    """Return instructions, the caller's too, then the passages and the question."""
    numbered = [f"[{number}] {one.content}" for number, one in enumerate(passages, start=1)]
    asked = _QUESTION.format(passages="\n\n".join(numbered), question=call.question)
    return (
        Message(role="system", content="\n\n".join([_INSTRUCTIONS, *call.instructions])),
        Message(role="user", content=asked),
    )


def quote(passage: Passage, sentence: str, number: int) -> str:
    """Return a sentence of a passage word for word, under its heading, with its mark."""
    said = f'"{sentence}" [{number}]'
    return f"{passage.heading}: {said}" if passage.heading else said


def _messages_of(passage: Passage) -> tuple[Message, ...]:
    return (Message(role="user", content=passage.content),)

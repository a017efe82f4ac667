"""Answers cheaply first, and asks more where that answer is not sure.

draft     one answer, and how sure it is
answer    the draft, where it is sure enough
          else a larger model's, where one is configured
          else what most of several answers agree on, the draft among them
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from msgspec.structs import replace as replace_option

from mm_orch.consciousness.agreement import hold_vote
from mm_orch.consciousness.confidence import weigh_votes
from mm_orch.core.errors import MuAIError
from mm_orch.workflows.cascade_settings import decide
from mm_orch.workflows.chat_generate import PROMPT, WINDOW
from mm_orch.workflows.contract import ANSWER, CALL, INPUTS, KEPT, SERVICES, Workflow
from mm_orch.workflows.deadline import ANSWER_SHARE, share_of
from mm_orch.workflows.doubt import admit_doubt
from mm_orch.workflows.generating import GeneratedText
from mm_orch.workflows.graph import Graph
from mm_orch.workflows.graph_state import Slot
from mm_orch.workflows.graph_step import Step
from mm_orch.workflows.keeping import KEEP
from mm_orch.workflows.side_by_side import side_by_side

if TYPE_CHECKING:
    from mm_orch.core.generation import GenerationOptions
    from mm_orch.workflows.cascade_settings import Decision
    from mm_orch.workflows.graph_state import StepContext

_DRAFT = Slot("draft", GeneratedText)


@dataclass(frozen=True, slots=True)
class _Tried:
    """One more answer, or what it failed of."""

    text: GeneratedText | None = None
    error: MuAIError | None = None


async def draft(context: StepContext) -> None:
    """Have the model answer once, as it would at its likeliest, and say how sure it is."""
    options, services = context[CALL].options, context[SERVICES]
    text = await services.models.answer(
        context[PROMPT],
        timeout_s=context.remaining_s(),
        options=replace_option(options, temperature=options.temperature or 0.0),
        is_gauged=True,
    )
    context.remark = _decide(context, text).reason
    context.put(_DRAFT, text)


async def answer(context: StepContext) -> None:
    """Give the draft where it is sure enough, else ask more."""
    drafted = context.find(_DRAFT)
    match _decide(context, drafted).way:
        case "take" if drafted is not None:
            context.remark = "The first answer is the answer."
            text = await _say_whole(context, drafted)
        case "ask_large":
            text = await _ask_large(context, drafted)
        case _:
            text = await _say_whole(context, await _hold_vote(context, drafted))
    context.put(ANSWER, await admit_doubt(context, text))


def _decide(context: StepContext, drafted: GeneratedText | None) -> Decision:
    if drafted is None:
        return decide(context[SERVICES].cascade, model=None, confidence=None)
    return decide(context[SERVICES].cascade, model=drafted.model, confidence=drafted.confidence)


async def _ask_large(context: StepContext, drafted: GeneratedText | None) -> GeneratedText:
    """Have the larger model answer, piece by piece; where it cannot, the draft is the answer."""
    services = context[SERVICES]
    try:
        text = await services.models.answer(
            context[PROMPT],
            say=context.say,
            think=context.think,
            timeout_s=_time_for_more(context, drafted),
            model=services.cascade.large_model,
            is_gauged=True,
        )
    except MuAIError as error:
        if drafted is None or context.has_spoken:
            raise
        context.lack(error)
        context.remark = f"{services.cascade.large_model} failed: the first answer is the answer."
        return await _say_whole(context, drafted)
    context.remark = f"{text.model} has answered."
    return text


async def _hold_vote(context: StepContext, drafted: GeneratedText | None) -> GeneratedText:
    """Return what most answers agree on; those that fail are done without.

    Raises:
        MuAIError: there is none at all.
    """
    tried = await _ask_again(context, drafted)
    errors = [one.error for one in tried if one.error is not None]
    answers = [one.text for one in tried if one.text is not None]
    candidates = [drafted, *answers] if drafted is not None else answers
    if not candidates:
        raise errors[0]
    for error in errors:
        context.lack(error)
    if not answers:
        context.remark = "No other answer came: the first answer is the answer."
        return candidates[0]
    vote = hold_vote(
        [one.text for one in candidates],
        context[CALL].question,
        weigh_votes([one.logprobs for one in candidates]),
    )
    winner = candidates[vote.winner]
    of_first = "" if drafted is None or vote.winner else ", the first one among them"
    context.remark = f"{vote.num_agreeing} of {vote.num_answers} answers agree{of_first}."
    confidence = context[SERVICES].models.gauge.of_vote(
        winner.model, vote, None if drafted is None else drafted.confidence
    )
    return replace(winner, confidence=confidence)


async def _ask_again(context: StepContext, drafted: GeneratedText | None) -> list[_Tried]:
    """Ask for all further answers at once."""
    settings, options = context[SERVICES].cascade, context[CALL].options
    timeout_s = _time_for_more(context, drafted)

    async def ask(number: int) -> _Tried:
        seed = None if options.seed is None else options.seed + number
        own = replace_option(options, temperature=settings.temperature, seed=seed)
        try:
            return _Tried(text=await _ask_once(context, own, timeout_s))
        except MuAIError as error:
            return _Tried(error=error)

    return await side_by_side(ask(number) for number in range(1, settings.num_samples + 1))


async def _ask_once(
    context: StepContext, options: GenerationOptions, timeout_s: float | None
) -> GeneratedText:
    return await context[SERVICES].models.answer(
        context[PROMPT], timeout_s=timeout_s, options=options, is_gauged=True
    )


async def _say_whole(context: StepContext, text: GeneratedText) -> GeneratedText:
    if text.reasoning:
        await context.think(text.reasoning)
    await context.say(text.text)
    return text


def _time_for_more(context: StepContext, drafted: GeneratedText | None) -> float | None:
    # With a draft in hand, whoever is asked more leaves some time to give the draft.
    return share_of(context.remaining_s(), 1.0 if drafted is None else ANSWER_SHARE)


CASCADE = Workflow(
    summary="Answers once, and asks a larger model or several times more where it is not sure.",
    graph=Graph(
        name="cascade",
        inputs=INPUTS,
        steps=(
            WINDOW,
            # Optional: whoever is asked more may answer without it.
            Step(
                name="draft",
                run=draft,
                inputs=(CALL, PROMPT, SERVICES),
                outputs=(_DRAFT,),
                is_optional=True,
            ),
            Step(
                name="answer",
                run=answer,
                inputs=(CALL, PROMPT, SERVICES),
                optional_inputs=(_DRAFT,),
                outputs=(ANSWER,),
            ),
            KEEP,
        ),
        answer=ANSWER,
        results=(KEPT,),
    ),
)

"""Takes a question apart, answers the parts side by side from pages, and joins their answers."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

import msgspec

from mm_orch.core.errors import MuAIError, UnsupportedError
from mm_orch.core.guide import JsonSchemaShape
from mm_orch.workflows.cited_answer import Citations
from mm_orch.workflows.contract import (
    ANSWER,
    CALL,
    CONFIDENCE,
    INPUTS,
    KEPT,
    SERVICES,
    SOURCES,
    Workflow,
)
from mm_orch.workflows.deadline import ANSWER_SHARE, PART_SHARE
from mm_orch.workflows.decomposing import choose_useful, split_by_rules
from mm_orch.workflows.doubt import say_unknown
from mm_orch.workflows.generating import GeneratedText
from mm_orch.workflows.graph import Graph
from mm_orch.workflows.graph_state import Slot
from mm_orch.workflows.graph_step import Step
from mm_orch.workflows.joined_answer import JoinedAnswer
from mm_orch.workflows.keeping import KEEP
from mm_orch.workflows.part_research import PartAnswer, research_part, tell_rounds
from mm_orch.workflows.research import (
    MODEL_FAILURES,
    no_model,
    tell_origin,
)
from mm_orch.workflows.search_prompts import PARTS_SCHEMA, ask_for_parts, ask_to_join
from mm_orch.workflows.search_qa import desk_of, find_obstacle, put_answer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from mm_orch.workflows.doubt import DoubtSettings
    from mm_orch.workflows.generating import Say
    from mm_orch.workflows.graph_state import StepContext
    from mm_orch.workflows.research import Desk

_MIN_JOINED = 2
# Two to four short questions as JSON.
_PARTS_TOKENS = 256
_JOIN_TOKENS = 128


@dataclass(frozen=True, slots=True)
class _Told:
    """The parts' answers as they are told.

    Attributes:
        lines: each question with its answer, or why there is none.
        answered: those that have an answer which is sure enough.
        citations: number the pages in that order.
    """

    lines: tuple[tuple[str, str], ...]
    answered: tuple[tuple[str, str], ...]
    citations: Citations

    @classmethod
    def of(cls, parts: Sequence[PartAnswer], doubt: DoubtSettings) -> Self:
        citations = Citations()
        lines = tuple((part.question, part.tell(citations, doubt)) for part in parts)
        are_known = (part.is_known(doubt) for part in parts)
        return cls(lines, tuple(compress(lines, are_known)), citations)


class _Parts(msgspec.Struct, frozen=True):
    questions: list[str]


_QUESTIONS: Slot[tuple[str, ...]] = Slot("questions", tuple)
_ANSWERS: Slot[tuple[PartAnswer, ...]] = Slot("answers", tuple)
# Says how much of it was told, whatever becomes of the step that tells it.
_JOINED = Slot("joined", JoinedAnswer)
_SAID = Slot("said", GeneratedText)


async def decompose(context: StepContext) -> None:
    """Take the question apart: by the model, or by rules where that is of no use.

    A question that neither can take apart is its own only part.
    """
    question = context[CALL].question
    told = await _ask_for_parts(desk_of(context), question)
    context.put(_QUESTIONS, await asyncio.to_thread(_choose_parts, question, told))


def _choose_parts(question: str, told: Sequence[str]) -> tuple[str, ...]:
    return choose_useful(question, told) or split_by_rules(question) or (question,)


async def answer_parts(context: StepContext) -> None:
    """Answer each part from pages, all at once; one that fails leaves the others as they are."""
    desk, whole = desk_of(context), context[CALL].question
    # Where it was not taken apart, the question is its own only part.
    questions = context.find(_QUESTIONS) or (whole,)
    outcomes = await asyncio.gather(
        *(_answer_part(desk, question, whole) for question in questions),
        return_exceptions=True,
    )
    parts: list[PartAnswer] = []
    for outcome in outcomes:
        # The caller's own fault, which every part has met.
        if isinstance(outcome, BaseException):
            raise outcome
        parts.append(outcome)
    context.remark = tell_rounds(parts, desk.services.doubt)
    answered = _Told.of(parts, context[SERVICES].doubt).answered
    context.put(_ANSWERS, tuple(parts))
    context.put(_JOINED, JoinedAnswer(whole, [text for _, text in answered]))


async def join(context: StepContext) -> None:
    """Have the model make one answer of those there are, told sentence by sentence."""
    parts = context[_ANSWERS]
    answered = _Told.of(parts, context[SERVICES].doubt).answered
    if len(answered) < _MIN_JOINED:
        context.put(_SAID, _find_said(parts))
        return
    said = await _join(desk_of(context), answered, context[_JOINED], context.say)
    context.put(_SAID, said)


async def tell(context: StepContext) -> None:
    """Show what the joined answer is made of, or say that alone where there is none."""
    parts, joined = context[_ANSWERS], context[_JOINED]
    question, doubt = context[CALL].question, context[SERVICES].doubt
    told = _Told.of(parts, doubt)
    confidence = sum(part.confidence for part in parts) / len(parts)
    context.remark = doubt.explain_unknown(confidence)
    listed = _list_parts(told.lines)
    # One part alone that has an answer says so itself.
    if doubt.is_unknown(confidence) and (len(parts) > 1 or parts[0].cited is None):
        listed = say_unknown(question, instead=listed)
    found = [part.found for part in parts if part.found is not None]
    below = "\n\n".join(filter(None, [listed, tell_origin(told.citations, found)]))
    below = f"\n\n{below}" if joined.text else below
    await context.say(below)
    said = context.find(_SAID) or _find_said(parts)
    await put_answer(context, said, joined.text + below, told.citations, confidence)


def _find_said(parts: Sequence[PartAnswer]) -> GeneratedText:
    """Return what a model has said of the first part that one has answered."""
    return next((part.said for part in parts if part.said.model), parts[0].said)


async def _ask_for_parts(desk: Desk, question: str) -> list[str]:
    """Return the parts that the model says; none where it cannot."""
    guide = JsonSchemaShape(schema=PARTS_SCHEMA)
    try:
        said = await desk.services.models.answer(
            ask_for_parts(question),
            timeout_s=desk.bound_s(PART_SHARE),
            options=msgspec.structs.replace(desk.options(_PARTS_TOKENS), guide=guide),
        )
    except UnsupportedError:
        # The engine keeps to no schema; rules do without.
        return []
    except MODEL_FAILURES as error:
        desk.lack(error)
        return []
    try:
        return msgspec.json.decode(said.text, type=_Parts).questions
    except msgspec.MsgspecError:
        # Cut off by the number of tokens.
        return []


async def _answer_part(desk: Desk, question: str, whole: str) -> PartAnswer:
    """Return what has come of a part; what it failed of is noted as a failure of this part."""

    def lack(error: MuAIError) -> None:
        desk.lack(_of_part(question, error))

    try:
        return await research_part(dataclasses.replace(desk, lack=lack), question, whole)
    except MODEL_FAILURES as error:
        lack(error)
        return PartAnswer(question=question, why_not=f"There is no answer: {error.message}")


async def _join(
    desk: Desk, answered: Sequence[tuple[str, str]], joined: JoinedAnswer, say: Say
) -> GeneratedText:
    prompt = ask_to_join(desk.call.question, answered, desk.call.instructions)
    most = desk.call.options.max_tokens or _JOIN_TOKENS
    try:
        said = await desk.services.models.answer(
            prompt,
            say=lambda piece: joined.pass_on(piece, say),
            timeout_s=desk.bound_s(ANSWER_SHARE),
            options=msgspec.structs.replace(desk.call.options, max_tokens=most),
        )
    except MODEL_FAILURES as error:
        # What has begun of a sentence is told no more.
        desk.lack(error)
        return no_model()
    await joined.pass_on_rest(say)
    return said


def _list_parts(told: Sequence[tuple[str, str]]) -> str:
    if len(told) == 1:
        return told[0][1]
    return "\n".join(f"- {question} {text}" for question, text in told)


def _of_part(question: str, error: MuAIError) -> MuAIError:
    """Return the same error, which says of which part it is."""
    told = MuAIError(f"{question} {error.message}", remedy=error.remedy)
    told.code = error.code
    return told


SELF_ASK_SEARCH_QA = Workflow(
    summary="Takes a question apart, answers the parts from pages side by side, and joins them.",
    find_obstacle=find_obstacle,
    graph=Graph(
        name="self_ask_search_qa",
        inputs=INPUTS,
        steps=(
            Step(
                name="decompose",
                run=decompose,
                inputs=(CALL, SERVICES),
                outputs=(_QUESTIONS,),
                is_optional=True,
            ),
            Step(
                name="parts",
                run=answer_parts,
                inputs=(CALL, SERVICES),
                optional_inputs=(_QUESTIONS,),
                outputs=(_ANSWERS, _JOINED),
            ),
            Step(
                name="join",
                run=join,
                inputs=(CALL, SERVICES, _ANSWERS, _JOINED),
                outputs=(_SAID,),
                is_optional=True,
                begins_answer=True,
            ),
            Step(
                name="tell",
                run=tell,
                inputs=(CALL, SERVICES, _ANSWERS, _JOINED),
                optional_inputs=(_SAID,),
                outputs=(ANSWER, SOURCES, CONFIDENCE),
            ),
            KEEP,
        ),
        answer=ANSWER,
        results=(SOURCES, CONFIDENCE, KEPT),
    ),
)

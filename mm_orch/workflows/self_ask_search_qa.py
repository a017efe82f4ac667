"""Takes a question apart, answers the parts side by side from pages, and joins their answers."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass, field
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
from mm_orch.workflows.graph import Graph
from mm_orch.workflows.graph_state import Slot
from mm_orch.workflows.graph_step import Step
from mm_orch.workflows.joined_answer import JoinedAnswer
from mm_orch.workflows.keeping import KEEP
from mm_orch.workflows.research import (
    MODEL_FAILURES,
    answer,
    find_pages,
    no_model,
    read_pages,
    say_why_not,
    take_notes,
    tell_origin,
)
from mm_orch.workflows.search_prompts import PARTS_SCHEMA, ask_for_parts, ask_to_join
from mm_orch.workflows.search_qa import desk_of, find_obstacle, put_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.search.page import Found
    from mm_orch.workflows.cited_answer import CitedAnswer
    from mm_orch.workflows.generating import GeneratedText, Say
    from mm_orch.workflows.graph_state import StepContext
    from mm_orch.workflows.research import Desk

# Two to four short questions as JSON.
_PARTS_TOKENS = 256
_JOIN_TOKENS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class PartAnswer:
    """What has come of one part.

    Attributes:
        cited: the answer; None where there is none.
        why_not: what is said instead.
        found: what the search has found; None where the part failed before.
        said: by the model that answered last.
    """

    question: str
    cited: CitedAnswer | None = None
    why_not: str = ""
    found: Found | None = None
    said: GeneratedText = field(default_factory=no_model)

    @property
    def confidence(self) -> float:
        """As of a whole answer."""
        return 0.0 if self.cited is None else self.cited.confidence

    def tell(self, citations: Citations) -> str:
        """Return the answer with its marks, or why there is none."""
        return self.why_not if self.cited is None else self.cited.tell(citations)


class _Parts(msgspec.Struct, frozen=True):
    questions: list[str]


_QUESTIONS: Slot[tuple[str, ...]] = Slot("questions", tuple)
_ANSWERS: Slot[tuple[PartAnswer, ...]] = Slot("answers", tuple)


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
    desk = desk_of(context)
    outcomes = await asyncio.gather(
        *(_answer_part(desk, question) for question in context[_QUESTIONS]),
        return_exceptions=True,
    )
    parts: list[PartAnswer] = []
    for outcome in outcomes:
        # The caller's own fault, which every part has met.
        if isinstance(outcome, BaseException):
            raise outcome
        parts.append(outcome)
    context.put(_ANSWERS, tuple(parts))


async def join(context: StepContext) -> None:
    """Have the model make one answer, told sentence by sentence; then show what it is made of."""
    parts, question, citations = context[_ANSWERS], context[CALL].question, Citations()
    told = [(part.question, part.tell(citations)) for part in parts]
    answered = [one for one, part in zip(told, parts, strict=True) if part.cited is not None]
    said, joined = parts[0].said, JoinedAnswer(question, [text for _, text in answered])
    if len(answered) > 1:
        said = await _join(desk_of(context), question, answered, joined, context.say)
    found = [part.found for part in parts if part.found is not None]
    below = "\n\n".join(filter(None, [_list_parts(told), tell_origin(citations, found)]))
    below = f"\n\n{below}" if joined.text else below
    await context.say(below)
    confidence = await asyncio.to_thread(_find_mean_confidence, parts)
    await put_answer(context, said, joined.text + below, citations, confidence)


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


async def _answer_part(desk: Desk, question: str) -> PartAnswer:
    """Return what has come of a part; what it failed of is noted as a failure of this part."""

    def lack(error: MuAIError) -> None:
        desk.lack(_of_part(question, error))

    try:
        return await _research(dataclasses.replace(desk, lack=lack), question)
    except MODEL_FAILURES as error:
        lack(error)
        return PartAnswer(question=question, why_not=f"There is no answer: {error.message}")


async def _research(desk: Desk, question: str) -> PartAnswer:
    found = await find_pages(desk, question)
    documents = await read_pages(desk, found.hits)
    part = PartAnswer(question=question, why_not=say_why_not(found, documents), found=found)
    if not documents:
        return part
    pages = await take_notes(desk, question, documents)
    cited, said = await answer(desk, question, pages, Citations())
    return dataclasses.replace(part, cited=None if cited.is_empty else cited, said=said)


async def _join(
    desk: Desk,
    question: str,
    answered: Sequence[tuple[str, str]],
    joined: JoinedAnswer,
    say: Say,
) -> GeneratedText:
    prompt = ask_to_join(question, answered, desk.call.instructions)
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


def _find_mean_confidence(parts: Sequence[PartAnswer]) -> float:
    return sum(part.confidence for part in parts) / len(parts)


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
            ),
            Step(
                name="parts",
                run=answer_parts,
                inputs=(CALL, SERVICES, _QUESTIONS),
                outputs=(_ANSWERS,),
            ),
            Step(
                name="join",
                run=join,
                inputs=(CALL, SERVICES, _ANSWERS),
                outputs=(ANSWER, SOURCES, CONFIDENCE),
            ),
            KEEP,
        ),
        answer=ANSWER,
        results=(SOURCES, CONFIDENCE, KEPT),
    ),
)

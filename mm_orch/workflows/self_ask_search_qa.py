"""Takes a question apart, answers the parts side by side from pages, and joins their answers."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from mm_orch.core.errors import MuAIError, UnsupportedError
from mm_orch.core.guide import JsonSchemaShape
from mm_orch.retrieval.sentences import split_sentences
from mm_orch.retrieval.terms import facts_of, terms_of
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
from mm_orch.workflows.decomposing import choose_useful, split_by_rules
from mm_orch.workflows.graph import Graph
from mm_orch.workflows.graph_state import Slot
from mm_orch.workflows.graph_step import Step
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
from mm_orch.workflows.search_qa import desk_of, put_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.search.page import Found
    from mm_orch.workflows.generating import GeneratedText
    from mm_orch.workflows.graph_state import StepContext
    from mm_orch.workflows.research import Desk

# Two to four short questions as JSON.
_PARTS_TOKENS = 256
_JOIN_TOKENS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class PartAnswer:
    """What has come of one part.

    Attributes:
        text: the answer with its marks, or why there is none.
        confidence: as of a whole answer.
        found: what the search has found; None where the part failed before.
        said: by the model that answered last.
    """

    question: str
    text: str
    is_answered: bool
    confidence: float
    found: Found | None
    said: GeneratedText


@dataclass(frozen=True, slots=True)
class Answers:
    """The parts in their order, and the pages that they cite."""

    parts: tuple[PartAnswer, ...]
    citations: Citations


class _Parts(msgspec.Struct, frozen=True):
    questions: list[str]


_QUESTIONS: Slot[tuple[str, ...]] = Slot("questions", tuple)
_ANSWERS = Slot("answers", Answers)


async def decompose(context: StepContext) -> None:
    """Take the question apart: by the model, or by rules where that is of no use.

    A question that neither can take apart is its own only part.
    """
    question = context[CALL].question
    parts = choose_useful(question, await _ask_for_parts(desk_of(context), question))
    context.put(_QUESTIONS, parts or split_by_rules(question) or (question,))


async def answer_parts(context: StepContext) -> None:
    """Answer each part from pages, all at once; one that fails leaves the others as they are."""
    desk, citations = desk_of(context), Citations()
    outcomes = await asyncio.gather(
        *(_answer_part(desk, question, citations) for question in context[_QUESTIONS]),
        return_exceptions=True,
    )
    parts: list[PartAnswer] = []
    for outcome in outcomes:
        # The caller's own fault, which every part has met.
        if isinstance(outcome, BaseException):
            raise outcome
        parts.append(outcome)
    context.put(_ANSWERS, Answers(tuple(parts), citations))


async def join(context: StepContext) -> None:
    """Have the model make one answer, and show what it is made of."""
    answers = context[_ANSWERS]
    parts, question = answers.parts, context[CALL].question
    answered = [part for part in parts if part.is_answered]
    said, joined = no_model(), ""
    if len(answered) > 1:
        said = await _join(desk_of(context), question, answered)
        joined = keep_grounded(said.text, question, [part.text for part in answered])
    elif answered:
        said = answered[0].said
    found = [part.found for part in parts if part.found is not None]
    told = [joined, _list_parts(parts), tell_origin(answers.citations, found)]
    text = "\n\n".join(one for one in told if one)
    await context.say(text)
    confidence = sum(part.confidence for part in parts) / len(parts)
    put_answer(context, said, text, answers.citations, confidence)


def keep_grounded(text: str, question: str, answers: Sequence[str]) -> str:
    """Return the sentences of a joined answer whose names are in the question or the answers.

    Numbers may be new, as sums and differences are.
    """
    known = set(terms_of("\n".join([question, *answers])))
    sentences = split_sentences(text)
    return " ".join(
        sentence
        for sentence in sentences
        if all(fact in known or fact[0].isdigit() for fact in facts_of(sentence))
    )


async def _ask_for_parts(desk: Desk, question: str) -> list[str]:
    """Return the parts that the model says; none where it cannot."""
    guide = JsonSchemaShape(schema=PARTS_SCHEMA)
    try:
        said = await desk.services.models.answer(
            ask_for_parts(question),
            timeout_s=desk.remaining_s(),
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


async def _answer_part(desk: Desk, question: str, citations: Citations) -> PartAnswer:
    lacking: list[MuAIError] = []
    own = dataclasses.replace(desk, lack=lacking.append)
    found: Found | None = None
    text, confidence, said, is_answered = "", 0.0, no_model(), False
    try:
        found = await find_pages(own, question)
        documents = await read_pages(own, found.hits)
        if documents:
            pages = await take_notes(own, question, documents)
            cited, said = await answer(own, question, pages, citations)
            text, confidence, is_answered = cited.text, cited.confidence, not cited.is_empty
        text = text or say_why_not(found, documents)
    except MODEL_FAILURES as error:
        lacking.append(error)
        text = f"There is no answer: {error.message}"
    for error in dict.fromkeys(lacking):
        desk.lack(_of_part(question, error))
    return PartAnswer(
        question=question,
        text=text,
        is_answered=is_answered,
        confidence=confidence,
        found=found,
        said=said,
    )


async def _join(desk: Desk, question: str, answered: Sequence[PartAnswer]) -> GeneratedText:
    given = [message.content for message in desk.call.messages if message.role == "system"]
    prompt = ask_to_join(question, [(part.question, part.text) for part in answered], given)
    most = desk.call.options.max_tokens or _JOIN_TOKENS
    try:
        return await desk.services.models.answer(
            prompt,
            timeout_s=desk.bound_s(0.9),
            options=msgspec.structs.replace(desk.call.options, max_tokens=most),
        )
    except MODEL_FAILURES as error:
        desk.lack(error)
        return no_model()


def _list_parts(parts: Sequence[PartAnswer]) -> str:
    if len(parts) == 1:
        return parts[0].text
    return "\n".join(f"- {part.question} {part.text}" for part in parts)


def _of_part(question: str, error: MuAIError) -> MuAIError:
    """Return the same error, which says of which part it is."""
    told = MuAIError(f"{question} {error.message}", remedy=error.remedy)
    told.code = error.code
    return told


SELF_ASK_SEARCH_QA = Workflow(
    summary="Takes a question apart, answers the parts from pages side by side, and joins them.",
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

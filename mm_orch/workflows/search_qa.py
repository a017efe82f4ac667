"""Answers from pages: finds some, reads them, notes what each says, answers with what they say."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

from mm_orch.search.page import Found
from mm_orch.workflows.cited_answer import Citations, CitedAnswer
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
from mm_orch.workflows.doubt import say_unknown, say_unknown_behind
from mm_orch.workflows.graph import Graph
from mm_orch.workflows.graph_state import Slot
from mm_orch.workflows.graph_step import Step
from mm_orch.workflows.keeping import KEEP
from mm_orch.workflows.research import (
    Desk,
    answer,
    find_pages,
    make_places,
    no_model,
    prepare,
    read_pages,
    say_why_not,
    take_notes,
    tell_origin,
)

if TYPE_CHECKING:
    from mm_orch.search.page import Document
    from mm_orch.workflows.cited_answer import Page
    from mm_orch.workflows.contract import Circumstances
    from mm_orch.workflows.generating import GeneratedText
    from mm_orch.workflows.graph_state import StepContext

_FOUND = Slot("found", Found)
_DOCUMENTS: Slot[tuple[Document, ...]] = Slot("documents", tuple)
_PAGES: Slot[tuple[Page, ...]] = Slot("pages", tuple)


def desk_of(context: StepContext) -> Desk:
    """Return what a step that has call and services among its inputs lends to its work."""
    return Desk(
        call=context[CALL],
        services=context[SERVICES],
        remaining_s=context.remaining_s,
        lack=context.lack,
        places=make_places(),
    )


async def search(context: StepContext) -> None:
    """Look for pages that may answer the question."""
    context.put(_FOUND, await find_pages(desk_of(context), context[CALL].question))


async def read(context: StepContext) -> None:
    """Read the first pages that can be read, all at once."""
    documents = await read_pages(desk_of(context), context[_FOUND].hits)
    context.put(_DOCUMENTS, tuple(documents))


async def summarise(context: StepContext) -> None:
    """Note what each page says about the question."""
    documents = context[_DOCUMENTS]
    context.put(_PAGES, await take_notes(desk_of(context), context[CALL].question, documents))


async def answer_from_pages(context: StepContext) -> None:
    """Say what the pages answer, sentence by sentence, and then where it is from."""
    desk, question = desk_of(context), context[CALL].question
    found, documents = context.find(_FOUND), context.find(_DOCUMENTS) or ()
    # Without the notes, the pages themselves are quoted.
    pages = context.find(_PAGES) or await prepare(question, documents, {})
    citations = Citations()
    cited, said = CitedAnswer(question, pages, citations), no_model()
    if pages:
        cited, said = await answer(
            desk, question, pages, citations, say=context.say, think=context.think
        )
    doubt = context[SERVICES].doubt
    confidence = await asyncio.to_thread(lambda: cited.confidence)
    end = say_why_not(found, documents) if cited.is_empty else ""
    if doubt.is_unknown(confidence):
        end = say_unknown(question, instead=end) if end else say_unknown_behind(question)
        context.remark = doubt.explain_unknown(confidence)
    origin = tell_origin(citations, [found] if found else [])
    tail = "\n\n".join(part for part in (end, origin) if part)
    if tail:
        tail = f"\n\n{tail}" if cited.text else tail
        await context.say(tail)
    await put_answer(context, said, cited.text + tail, citations, confidence)


async def put_answer(
    context: StepContext,
    said: GeneratedText,
    text: str,
    citations: Citations,
    confidence: float,
) -> None:
    """Write what the workflow answers, as it is told, in place of what the model has said."""
    # What the tokens' probabilities are of was never told.
    context.put(ANSWER, dataclasses.replace(said, text=text, logprobs=()))
    context.put(SOURCES, await asyncio.to_thread(citations.list_sources, context[CALL].question))
    context.put(CONFIDENCE, confidence)


def find_obstacle(circumstances: Circumstances) -> str | None:
    """Say why pages are not to be searched for unasked."""
    return circumstances.services.search.obstacle


SEARCH_QA = Workflow(
    summary="Answers from pages that it searches for and reads, and cites them.",
    find_obstacle=find_obstacle,
    graph=Graph(
        name="search_qa",
        inputs=INPUTS,
        steps=(
            Step(
                name="search",
                run=search,
                inputs=(CALL, SERVICES),
                outputs=(_FOUND,),
                is_optional=True,
            ),
            Step(
                name="read",
                run=read,
                inputs=(CALL, SERVICES, _FOUND),
                outputs=(_DOCUMENTS,),
                is_optional=True,
            ),
            Step(
                name="summarise",
                run=summarise,
                inputs=(CALL, SERVICES, _DOCUMENTS),
                outputs=(_PAGES,),
                is_optional=True,
            ),
            Step(
                name="answer",
                run=answer_from_pages,
                inputs=(CALL, SERVICES),
                optional_inputs=(_FOUND, _DOCUMENTS, _PAGES),
                outputs=(ANSWER, SOURCES, CONFIDENCE),
            ),
            KEEP,
        ),
        answer=ANSWER,
        results=(SOURCES, CONFIDENCE, KEPT),
    ),
)

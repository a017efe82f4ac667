"""Answers one part of a question from pages; where that is not sure, once more from other pages."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.retrieval.terms import STOP_WORDS, facts_of, terms_of
from mm_orch.workflows.cited_answer import Citations
from mm_orch.workflows.doubt import say_unknown
from mm_orch.workflows.research import (
    MODEL_FAILURES,
    answer,
    find_pages,
    no_model,
    read_pages,
    say_why_not,
    take_notes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from mm_orch.core.errors import MuAIError
    from mm_orch.search.page import Found
    from mm_orch.workflows.cited_answer import CitedAnswer
    from mm_orch.workflows.doubt import DoubtSettings
    from mm_orch.workflows.generating import GeneratedText
    from mm_orch.workflows.research import Desk

# Of the time that is left: the answers have to be joined afterwards.
_AGAIN_TIME_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PartAnswer:
    """What has come of one part.

    Attributes:
        cited: the answer; None where there is none.
        confidence: as of a whole answer; 0 where there is none.
        why_not: what is said instead.
        found: what the search has found; None where the part failed before.
        said: by the model that answered last.
        read_urls: of the pages that were read.
        first_confidence: of the first answer, where the part was asked again; else None.
    """

    question: str
    cited: CitedAnswer | None = None
    confidence: float = 0.0
    why_not: str = ""
    found: Found | None = None
    said: GeneratedText = field(default_factory=no_model)
    read_urls: frozenset[str] = frozenset()
    first_confidence: float | None = None

    def is_known(self, doubt: DoubtSettings) -> bool:
        """Whether there is an answer that is sure enough."""
        return self.cited is not None and not doubt.is_unknown(self.confidence)

    def tell(self, citations: Citations, doubt: DoubtSettings) -> str:
        """Return the answer with its marks, that it is not sure enough, or why there is none."""
        if self.cited is None:
            return self.why_not
        told = self.cited.tell(citations)
        return told if self.is_known(doubt) else say_unknown(self.question, found=told)


async def research_part(desk: Desk, question: str, whole: str) -> PartAnswer:
    """Return what has come of a part.

    An answer that is less sure than ``ask_again_below`` is looked for once more, among pages that
    were not read for it; the surer one counts, of equal ones the first.

    Args:
        desk: of the step.
        question: the part.
        whole: the question that it is a part of.

    Raises:
        MuAIError: as generations and meters do, in the first round.
    """
    first = await _research(desk, question, query=question)
    if not desk.services.doubt.is_doubtful(first.confidence):
        return first
    lacking: list[MuAIError] = []
    again_desk = dataclasses.replace(
        desk, lack=lacking.append, remaining_s=_share_of_time(desk.remaining_s)
    )
    try:
        second = await _research(
            again_desk, question, query=reword(question, whole), read_urls=first.read_urls
        )
    except MODEL_FAILURES:
        # There is the first answer all the same.
        return first
    if not second.read_urls:
        return first
    if second.confidence > first.confidence:
        for error in lacking:
            desk.lack(error)
        return dataclasses.replace(second, first_confidence=first.confidence)
    return dataclasses.replace(first, first_confidence=first.confidence)


def reword(question: str, whole: str) -> str:
    """Return a question as the words that it is about; without a name, with those of the whole one.

    Args:
        question: a part.
        whole: the question that it is a part of.
    """
    words = [word for word in question.split() if not set(terms_of(word)) <= STOP_WORDS]
    names = frozenset[str]() if facts_of(question) else facts_of(whole)
    missing = [word for word in whole.split() if names & set(terms_of(word))]
    return " ".join(dict.fromkeys(word.strip("?!.,;:\"'()") for word in [*words, *missing]))


def tell_rounds(parts: Collection[PartAnswer], doubt: DoubtSettings) -> str:
    """Say which parts were asked again, and what came of it; empty where none was."""
    return " ".join(
        f"Part {number} was {part.first_confidence:.2f} sure, below"
        f" {doubt.ask_again_below:.2f}, and asked again from other pages:"
        + (
            f" {part.confidence:.2f} now."
            if part.confidence > part.first_confidence
            else " no answer was surer."
        )
        for number, part in enumerate(parts, start=1)
        if part.first_confidence is not None
    )


async def _research(
    desk: Desk, question: str, *, query: str, read_urls: frozenset[str] = frozenset()
) -> PartAnswer:
    """Answer from pages, of which some are left out."""
    found = await find_pages(desk, query)
    documents = await read_pages(desk, [one for one in found.hits if one.url not in read_urls])
    part = PartAnswer(question=question, why_not=say_why_not(found, documents), found=found)
    if not documents:
        return part
    pages = await take_notes(desk, question, documents)
    cited, said = await answer(desk, question, pages, Citations())
    return dataclasses.replace(
        part,
        cited=None if cited.is_empty else cited,
        confidence=await asyncio.to_thread(lambda: cited.confidence),
        said=said,
        read_urls=frozenset(document.url for document in documents),
    )


def _share_of_time(remaining_s: Callable[[], float | None]) -> Callable[[], float | None]:
    """Return what gives the seconds left of a share of the time that is left now."""
    left_s = remaining_s()
    if left_s is None:
        return remaining_s
    kept_s = (1 - _AGAIN_TIME_SHARE) * left_s

    def find_rest_s() -> float | None:
        rest_s = remaining_s()
        return None if rest_s is None else max(0.0, rest_s - kept_s)

    return find_rest_s

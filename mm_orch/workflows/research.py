"""What workflows that search have in common: find pages, read them, note what they say, answer.

Each of these goes on without what fails, and says so: a page that cannot be read gives its place to
the next one, of a page without a summary the best sentences are taken, and where no model answers,
a page is quoted.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from mm_orch.core.errors import DeadlineError, EngineError, MuAIError, OverloadError, SearchError
from mm_orch.core.generation import FinishReason
from mm_orch.retrieval.citations import SourceText, bear_out
from mm_orch.search.errors import PageError
from mm_orch.search.page import Found
from mm_orch.search.passages import choose_passages, choose_sentences
from mm_orch.workflows.cited_answer import CitedAnswer, Page
from mm_orch.workflows.deadline import ANSWER_SHARE, PART_SHARE, share_of, within
from mm_orch.workflows.generating import GeneratedText
from mm_orch.workflows.search_prompts import ask_for_answer, ask_for_summary
from mm_orch.workflows.side_by_side import side_by_side

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
    from typing import Any

    from mm_orch.core.generation import GenerationOptions
    from mm_orch.search.page import Document, Hit
    from mm_orch.workflows.call import WorkflowCall
    from mm_orch.workflows.cited_answer import Citations
    from mm_orch.workflows.contract import Services

MODEL_FAILURES = (EngineError, OverloadError, DeadlineError)
"""What is nobody's fault who asks: there may be an answer without the model."""

_SUMMARY_TOKENS = 96
_ANSWER_TOKENS = 256
# Of the model's context, for what is shown of one page; and where its context is not known.
_PAGE_SHARE = 0.25
_MAX_PAGE_TOKENS = 700
_MIN_PAGE_TOKENS = 64
# As where tokens are guessed: rather too few bytes than too many.
_BYTES_PER_TOKEN = 3
_NOTE_SENTENCES = 2
_BEGIN_CHARS = 300
# Of what a question's words weigh: a sentence with less is not taken for an answer to it.
_MIN_SHARE = 0.3
# Generations of one run at a time; more only wait for one another.
_MAX_GENERATING = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What the work on one question needs of the step that does it.

    Attributes:
        call: of the run.
        services: of the run.
        remaining_s: gives the seconds left to the step; None for any number.
        lack: takes what the result is to do without.
        places: bounds what is generated at a time.
    """

    call: WorkflowCall
    services: Services
    remaining_s: Callable[[], float | None]
    lack: Callable[[MuAIError], None]
    places: asyncio.Semaphore

    def bound_s(self, share: float) -> float | None:
        """Return so much of the time that is left; None for any."""
        return share_of(self.remaining_s(), share)

    def options(self, max_tokens: int) -> GenerationOptions:
        """Return the options of a generation whose text nobody is shown as it is."""
        return msgspec.structs.replace(
            self.call.options,
            max_tokens=min(max_tokens, self.call.options.max_tokens or max_tokens),
            min_tokens=0,
            temperature=0.0,
            stop=(),
            ignore_eos=False,
            num_choices=1,
        )


def make_places() -> asyncio.Semaphore:
    """Return what bounds the generations of one run."""
    return asyncio.Semaphore(_MAX_GENERATING)


async def find_pages(desk: Desk, question: str) -> Found:
    """Search; where that cannot be done, nothing is found and it is said why."""

    def too_slow() -> SearchError:
        return SearchError("The search was not complete in time.")

    try:
        async with within(desk.bound_s(PART_SHARE), too_slow):
            found = await desk.services.search.find(question)
    except SearchError as error:
        found = Found(hits=(), failure=error)
    if found.failure is not None:
        desk.lack(found.failure)
    return found


async def read_pages(desk: Desk, hits: Sequence[Hit]) -> list[Document]:
    """Return the texts of the first pages that can be read, side by side, in their order.

    Nothing waits for more than half of the time that is left.
    """
    search = desk.services.search
    waiting = iter(enumerate(hits))
    documents: dict[int, Document] = {}

    async def read_one() -> None:
        for index, hit in waiting:
            try:
                documents[index] = await search.read(hit)
            except PageError as error:
                desk.lack(error)
            else:
                return

    reading = side_by_side(read_one() for _ in range(search.max_pages))
    await _in_time(desk, reading, "Some pages were not read in time.")
    return [document for _, document in sorted(documents.items())]


async def take_notes(desk: Desk, question: str, documents: Sequence[Document]) -> tuple[Page, ...]:
    """Return what each page says about a question: summed up by the model, and quoted.

    Of a summary no more is kept than its page bears out.
    """
    summaries: dict[int, str] = {}

    async def sum_up_all() -> None:
        max_bytes = await _find_page_bytes(desk)
        await side_by_side(
            sum_up(index, document, max_bytes) for index, document in enumerate(documents)
        )

    async def sum_up(index: int, document: Document, max_bytes: int) -> None:
        text = await asyncio.to_thread(choose_passages, document.text, question, max_bytes)
        prompt = ask_for_summary(question, document.title, text)
        try:
            async with desk.places:
                said = await desk.services.models.answer(
                    prompt,
                    timeout_s=desk.remaining_s(),
                    options=desk.options(_SUMMARY_TOKENS),
                )
        except MuAIError as error:
            # Where the fault is the caller's, the answer's own generation says so again.
            desk.lack(error)
        else:
            summaries[index] = said.text

    # Finding out what the model can be shown may take long too: it may have to be loaded.
    await _in_time(desk, sum_up_all(), "Some pages were not summed up in time.")
    return await prepare(question, documents, summaries)


async def prepare(
    question: str, documents: Sequence[Document], summaries: Mapping[int, str]
) -> tuple[Page, ...]:
    """Return pages with their notes.

    Args:
        question: that the notes are about.
        documents: of the pages.
        summaries: that a model has written, by index; a page without one is quoted alone.
    """
    return tuple(
        await asyncio.gather(
            *(
                asyncio.to_thread(_make_page, question, document, summaries.get(index, ""))
                for index, document in enumerate(documents)
            )
        )
    )


async def answer(
    desk: Desk,
    question: str,
    pages: Sequence[Page],
    citations: Citations,
    *,
    say: Callable[[str], Awaitable[None]] | None = None,
    think: Callable[[str], Awaitable[None]] | None = None,
) -> tuple[CitedAnswer, GeneratedText]:
    """Return what the pages answer; it is empty where none of them does.

    Args:
        desk: of the step.
        question: to be answered.
        pages: at least one.
        citations: number the pages.
        say: takes each sentence, with its mark, as soon as it is known to be borne out.
        think: takes what the model thinks before.
    """
    cited = CitedAnswer(question, pages, citations)

    async def tell(told: str) -> None:
        if say is not None:
            await say(told)

    prompt = ask_for_answer(question, [page.notes for page in pages], desk.call.instructions)
    most = desk.call.options.max_tokens or _ANSWER_TOKENS
    try:
        async with desk.places:
            said = await desk.services.models.answer(
                prompt,
                say=lambda piece: cited.pass_on(piece, tell),
                think=think,
                timeout_s=desk.bound_s(ANSWER_SHARE),
                options=msgspec.structs.replace(desk.call.options, max_tokens=most),
            )
    except MODEL_FAILURES as error:
        desk.lack(error)
        said = no_model()
    await cited.pass_on_rest(tell)
    if cited.is_empty:
        for page, sentence in await asyncio.to_thread(_find_quotes, question, pages):
            await tell(cited.quote(page, sentence))
    return cited, said


def no_model() -> GeneratedText:
    """Return the text of an answer that no model has written."""
    return GeneratedText(text="", model="", engine="", finish_reason=FinishReason.STOP)


def say_why_not(found: Found | None, documents: Sequence[Document]) -> str:
    """Return what is said instead of an answer that there is not."""
    if found is None:
        return "There is no answer: pages could not be searched for."
    if found.failure is not None and not found.hits:
        return f"There is no answer without pages. {found.failure.message}"
    if not found.hits:
        return "Nothing was found about this."
    if not documents:
        return f"{len(found.hits)} pages were found, but none could be read."
    return "The pages that were read do not answer this."


def tell_origin(citations: Citations, found: Sequence[Found]) -> str:
    """Return what stands under an answer: its sources, and where they are from."""
    failures = [one.failure.message for one in found if one.failure is not None and one.hits]
    notices = [one.notice for one in found if one.notice]
    listed = citations.tell()
    parts = [f"Sources:\n{listed}" if listed else "", *dict.fromkeys([*failures, *notices])]
    return "\n\n".join(part for part in parts if part)


def _find_quotes(question: str, pages: Sequence[Page]) -> list[tuple[Page, str]]:
    texts = [(page.document.title, page.document.text) for page in pages]
    found = choose_sentences(texts, question, limit=1, min_share=_MIN_SHARE)
    return [(pages[index], sentence) for index, sentence in found]


def _make_page(question: str, document: Document, summary: str) -> Page:
    source = SourceText(document.title, document.text)
    said = [one.text for one in bear_out(summary, question, [source])]
    found = choose_sentences(
        [(document.title, document.text)], question, limit=_NOTE_SENTENCES, min_share=0.0
    )
    quoted = [sentence for _, sentence in found] or [document.text[:_BEGIN_CHARS]]
    notes = " ".join(dict.fromkeys([*said, *quoted]))
    return Page(document, source, f"{document.title}: {notes}" if document.title else notes)


async def _find_page_bytes(desk: Desk) -> int:
    """Return how much of a page the model can be shown."""
    meter = await desk.services.meters.find_meter(desk.call.model)
    bounds = [_MAX_PAGE_TOKENS]
    if meter.context_length is not None:
        bounds.append(int(meter.context_length * _PAGE_SHARE))
    if desk.services.window_tokens is not None:
        bounds.append(desk.services.window_tokens // 2)
    return _BYTES_PER_TOKEN * max(_MIN_PAGE_TOKENS, min(bounds))


async def _in_time(desk: Desk, work: Coroutine[Any, Any, object], what_not: str) -> None:
    """Do this for no longer than half of the time that is left."""
    try:
        async with within(desk.bound_s(PART_SHARE), lambda: DeadlineError(what_not)):
            await work
    except DeadlineError as error:
        # Without any time left it was not begun, and nobody awaits it any more.
        work.close()
        desk.lack(error)

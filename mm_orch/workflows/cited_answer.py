"""An answer of which no more is told than its pages bear out, told as it is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.retrieval.citations import SourceText, bear_out
from mm_orch.search.ranking import count_names, find_share
from mm_orch.workflows.contract import Source
from mm_orch.workflows.sentence_teller import SentenceTeller

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.search.page import Document

_LEAD = re.compile(
    r"^(?:\[\d{1,2}\]\s*)*(?:(?:the )?answer(?: to [^.:]{0,200})? is: (?:\[\d{1,2}\]\s*)*)?",
    re.IGNORECASE,
)
# What is quoted is from the page, but that it answers is not known.
_QUOTED_SURENESS = 0.5


@dataclass(frozen=True, slots=True)
class Page:
    """A page that was read, prepared for statements to be looked for in it.

    Attributes:
        document: of the page.
        source: its text.
        notes: what of it has to do with the question.
    """

    document: Document
    source: SourceText
    notes: str


class Citations:
    """Numbers pages in the order in which they are cited, whoever cites them."""

    def __init__(self) -> None:
        self._document_by_url: dict[str, tuple[int, Document, list[str]]] = {}

    def cite(self, document: Document, text: str) -> str:
        """Return the mark of a page that a text goes by."""
        number = len(self._document_by_url) + 1
        number, _, texts = self._document_by_url.setdefault(document.url, (number, document, []))
        if text not in texts:
            texts.append(text)
        return f"[{number}]"

    def list_sources(self, question: str) -> tuple[Source, ...]:
        """Return the cited pages in the order of their numbers, and what they are cited for."""
        return tuple(
            Source(
                content="\n".join(texts),
                score=find_share(question, "\n".join([document.title, *texts])),
                metadata={
                    "number": number,
                    "url": document.url,
                    "title": document.title,
                    "fetched_at": document.fetched_at.isoformat(timespec="seconds"),
                },
            )
            for number, document, texts in self._document_by_url.values()
        )

    def tell(self) -> str:
        """Return the list of sources as text, for those who see nothing else."""
        return "\n".join(
            f"[{number}] {document.title or 'Untitled'}, {document.url}"
            f" (as of {document.fetched_at.date().isoformat()})"
            for number, document, _ in self._document_by_url.values()
        )


class CitedAnswer(SentenceTeller):
    """Takes what a model writes, piece by piece; gives each sentence that a page bears out.

    Args:
        question: that is answered.
        pages: as the model was shown them.
        citations: numbers them.

    """

    def __init__(self, question: str, pages: Sequence[Page], citations: Citations) -> None:
        super().__init__()
        self._question = question
        self._pages = pages
        self._citations = citations
        self._kept: dict[str, Document] = {}
        self._is_quoted = False

    @property
    def text(self) -> str:
        """What was given so far, with its marks."""
        return self.tell(self._citations)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was borne out so far."""
        return not self._kept

    @property
    def confidence(self) -> float:
        """How much of what was written is borne out, times how much of the question it is about.

        From 0 to 1; a measure of support, which is not calibrated.
        """
        if not self._kept:
            return 0.0
        kept = _QUOTED_SURENESS if self._is_quoted else len(self._kept) / self._num_taken
        titles = {document.title for document in self._kept.values()}
        about = "\n".join([*self._kept, *titles])
        return min(1.0, kept) * find_share(self._question, about)

    def tell(self, citations: Citations) -> str:
        """Return what was given so far, with the marks that others number."""
        return " ".join(
            f"{text} {citations.cite(document, text)}" for text, document in self._kept.items()
        )

    def quote(self, page: Page, sentence: str) -> str:
        """Return a sentence of a page word for word, where the model has said nothing of use."""
        self._is_quoted = True
        return self._keep(f'"{sentence}"', page)

    def _tell_new(self, sentences: Sequence[str]) -> str:
        bare = "\n".join(self._take_lead_off(sentence) for sentence in sentences)
        told = ""
        for statement in bear_out(bare, self._question, [page.source for page in self._pages]):
            page = self._pages[statement.source - 1]
            # A page about something else bears out much that is no answer.
            whole = f"{page.document.title}\n{statement.text}"
            if statement.text not in self._kept and count_names(self._question, whole) is not None:
                told += self._keep(statement.text, page)
        return told

    def _take_lead_off(self, sentence: str) -> str:
        """Return a sentence without what small models put before it, such as a note's title."""
        sentence = _LEAD.sub("", sentence)
        for page in self._pages:
            sentence = sentence.removeprefix(f"{page.document.title}: ")
        return sentence

    def _keep(self, text: str, page: Page) -> str:
        before = " " if self._kept else ""
        self._kept[text] = page.document
        return f"{before}{text} {self._citations.cite(page.document, text)}"

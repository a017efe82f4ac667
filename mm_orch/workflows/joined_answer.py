"""An answer that joins others, of which nothing is told that neither they nor the question know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.retrieval.terms import facts_of, terms_of
from mm_orch.search.ranking import content_of
from mm_orch.workflows.decomposing import DIFFERENCE
from mm_orch.workflows.sentence_teller import SentenceTeller

if TYPE_CHECKING:
    from collections.abc import Sequence


class JoinedAnswer(SentenceTeller):
    """Gives the sentences of a joined answer that are about what was asked and answered.

    Each has a word of the question, and no name that neither question nor answers have. Numbers may
    be new, as sums and differences are; one that is told as a difference has to be.

    Args:
        question: that is answered.
        answers: to its parts.

    Attributes:
        text: what was given so far.
    """

    def __init__(self, question: str, answers: Sequence[str]) -> None:
        super().__init__()
        self.text = ""
        self._question = question
        self._answers = answers

    def _tell_new(self, sentences: Sequence[str]) -> str:
        if not sentences:
            return ""
        known = set(terms_of("\n".join([self._question, *self._answers])))
        asked = content_of(self._question)
        kept = " ".join(
            sentence
            for sentence in sentences
            if asked & set(terms_of(sentence))
            and all(fact in known or fact[0].isdigit() for fact in facts_of(sentence))
            and not known & set(terms_of(" ".join(DIFFERENCE.findall(sentence))))
        )
        told = f" {kept}" if kept and self.text else kept
        self.text += told
        return told

"""Which statements of an answer a source bears out; what none does is left out.

take the marks off, whoever made them
each statement   the sources in which one place has all its numbers and names, nearly all its words,
                 and the same yes or no
    one has      kept, with the mark of the best
    none has     dropped

The words are compared and not what they mean: a statement that says something else in the words of
its source passes. One that brings a number or a name from elsewhere does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.retrieval.sentences import split_sentences
from mm_orch.retrieval.terms import facts_of, read_question, terms_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Of a statement's words that its place in the source must have; a model joins them by a few others.
_MIN_SHARE = 0.8
# Sentences that are one place: what "he" or "it" is stands in the one before.
_PLACE_SENTENCES = 2
_NUMBERS = r"\d{1,2}(?:\s*[,;]\s*\d{1,2})*"
_MARK = re.compile(
    rf"\s*(?:\[\s*(?:(?:source|passage)s?\s*)?{_NUMBERS}\s*\]"
    rf"|\(\s*(?:source|passage)s?\s*{_NUMBERS}\s*\))",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(?:no|not|never|none|nobody|nothing|neither|nor|cannot|without)\b|n['\u2019]t\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of an answer, and the source that it is borne out by.

    Attributes:
        text: without marks.
        source: its number, counted from 1.
    """

    text: str
    source: int

    @property
    def cited(self) -> str:
        """The sentence with its mark."""
        return f"{self.text} [{self.source}]"


class SourceText:
    """A source, prepared for many statements to be looked for in it.

    Args:
        heading: what it stands under, which belongs to each of its places.
        text: of the source.
    """

    def __init__(self, heading: str, text: str) -> None:
        sentences = split_sentences(text)
        above = frozenset(terms_of(heading))
        self._places = tuple(
            _Place(above | frozenset(terms_of(place)), _is_negative(place))
            for place in _join_neighbours(sentences)
        )

    def find_share(self, statement: str) -> float:
        """Return the share of a statement's words that one place has; 0 without its facts."""
        facts, content = facts_of(statement), read_question(statement).content
        if not content:
            return 0.0
        is_negative = _is_negative(statement)
        return max(
            (
                len(content & place.terms) / len(content)
                for place in self._places
                if facts <= place.terms and place.is_negative == is_negative
            ),
            default=0.0,
        )


@dataclass(frozen=True, slots=True)
class _Place:
    terms: frozenset[str]
    is_negative: bool


def bear_out(answer: str, question: str, sources: Sequence[SourceText]) -> list[Statement]:
    """Return the statements of an answer that a source bears out, in order, each once.

    Args:
        answer: as a model has written it.
        question: whose words alone are no answer.
        sources: in the order of their numbers.
    """
    asked = read_question(question).content
    kept: dict[str, Statement] = {}
    for sentence in split_sentences(_MARK.sub("", answer)):
        if read_question(sentence).content <= asked:
            continue
        shares = [source.find_share(sentence) for source in sources]
        best = max(shares, default=0.0)
        if best >= _MIN_SHARE:
            kept.setdefault(sentence, Statement(sentence, shares.index(best) + 1))
    return list(kept.values())


def _join_neighbours(sentences: Sequence[str]) -> Iterator[str]:
    """Yield each sentence alone, and with the next one."""
    for size in range(1, _PLACE_SENTENCES + 1):
        for begin in range(len(sentences) - size + 1):
            yield "\n".join(sentences[begin : begin + size])


def _is_negative(text: str) -> bool:
    return _NEGATION.search(text) is not None

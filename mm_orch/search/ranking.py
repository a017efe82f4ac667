"""Ranks texts by the words of a query: Okapi BM25 (Robertson and Zaragoza 2009), in memory."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.retrieval.terms import read_question, terms_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_K1 = 1.2
_B = 0.75


# Pairs of characters with one of these stand across words, or are no names of things.
_CHINESE_STOPS = frozenset("的了是在有和与跟吗呢么什谁哪几多少何怎如为到被把从这那个些")


# What is asked for by one word is mostly told by another.
_MEASURE_LINES = """
    high height | tall height | long length | deep depth | wide width | heavy weight weighs mass
    large size area diameter | big size area diameter | old age born built | fast speed
    far distance | hot temperature | warm temperature | cold temperature | expensive price cost
"""


def _read_measures() -> dict[str, frozenset[str]]:
    groups = [terms_of(line) for line in _MEASURE_LINES.replace("\n", "|").split("|")]
    return {group[0]: frozenset(group) for group in groups if group}


_MEASURES = _read_measures()


def content_of(question: str) -> frozenset[str]:
    """Return the words that a question is about."""
    content = read_question(question).content
    return frozenset(term for term in content if not _CHINESE_STOPS & set(term))


def find_share(question: str, text: str) -> float:
    """Return the share of a question's words that a text has, or a word that answers them."""
    content, terms = content_of(question), set(terms_of(text))
    return sum(bool(_group(term) & terms) for term in content) / len(content) if content else 0.0


def count_names(question: str, text: str) -> int | None:
    """Return how many of a question's names and numbers a text has; None for less than half."""
    keys = read_question(question).keys
    num_found = len(keys & set(terms_of(text)))
    return None if 2 * num_found < len(keys) else num_found


def _group(term: str) -> frozenset[str]:
    return _MEASURES.get(term) or frozenset({term})


@dataclass(frozen=True, slots=True)
class Ranked:
    """One text that has words of the query.

    Attributes:
        index: of the text.
        score: greater is better.
        share: of the query's words, those that the text has, as of :func:`find_share`.
    """

    index: int
    score: float
    share: float


class Ranking:
    """Texts, each as the words that it has.

    Args:
        texts: in the order of their indexes.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._lengths: list[int] = []
        self._counts: defaultdict[str, dict[int, int]] = defaultdict(dict)
        for index, text in enumerate(texts):
            counts = Counter(terms_of(text))
            self._lengths.append(counts.total())
            for term, count in counts.items():
                self._counts[term][index] = count
        self._mean_length = max(1.0, sum(self._lengths) / max(1, len(self._lengths)))

    def rank(self, query: str) -> list[Ranked]:
        """Return the texts that have words of a query, best first; of equals the first leads."""
        # The commonest words tell nothing, unless there are no others.
        terms = content_of(query) or frozenset(terms_of(query))
        scores: defaultdict[int, float] = defaultdict(float)
        num_found: Counter[int] = Counter()
        for term in sorted(terms):
            counts: Counter[int] = Counter()
            for one in _group(term):
                counts.update(self._counts.get(one, {}))
            weight = self._weigh(len(counts))
            for index, count in counts.items():
                scores[index] += weight * self._saturate(count, self._lengths[index])
                num_found[index] += 1
        ranked = [Ranked(one, score, num_found[one] / len(terms)) for one, score in scores.items()]
        return sorted(ranked, key=lambda one: (-one.score, one.index))

    def _weigh(self, num_with: int) -> float:
        num_texts = len(self._lengths)
        return math.log(1 + (num_texts - num_with + 0.5) / (num_with + 0.5))

    def _saturate(self, count: int, length: int) -> float:
        norm = 1 - _B + _B * length / self._mean_length
        return count * (_K1 + 1) / (count + _K1 * norm)

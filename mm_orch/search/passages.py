"""Finds the places of a text that have most to do with a question."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mm_orch.retrieval.sentences import split_sentences
from mm_orch.search.ranking import Ranking, count_names

if TYPE_CHECKING:
    from collections.abc import Sequence

_PASSAGE_BYTES = 500
_MAX_QUOTE_CHARS = 400
_WANTS_NUMBER = re.compile(
    r"\bwhen\b|\bhow\s+(?!do\b|does\b|did\b|is\b|are\b|was\b|were\b|can\b|to\b)\w+"
    r"|\b(?:what|which|in what)\s+(?:year|date|day|number)\b"
    r"|\u591a[\u5c11\u957f\u9ad8\u5927\u6df1\u4e45\u8fdc\u91cd]|\u51e0|\u4f55\u65f6|\u54ea(?:\u4e00)?\u5e74",
    re.IGNORECASE,
)


def choose_passages(text: str, query: str, max_bytes: int) -> str:
    """Return the passages of a text that fit a query best, in their own order.

    Args:
        text: of a page.
        query: whose words are looked for; where none is found, the text's beginning is taken.
        max_bytes: of what is returned, in UTF-8.
    """
    if len(text.encode()) <= max_bytes:
        return text
    passages = _group(split_sentences(text))
    ranked = [one.index for one in Ranking(passages).rank(query)]
    # What stands first mostly says what the whole is about.
    order = dict.fromkeys([*ranked, *range(len(passages))])
    chosen: list[int] = []
    for index in order:
        size = len(passages[index].encode()) + 1
        if size > max_bytes:
            continue
        chosen.append(index)
        max_bytes -= size
    return "\n".join(passages[index] for index in sorted(chosen))


def choose_sentences(
    texts: Sequence[tuple[str, str]], query: str, *, limit: int, min_share: float
) -> list[tuple[int, str]]:
    """Return the sentences that fit a query best: the index of the text, and the sentence.

    Those with the most of the query's names and numbers go first; and where it asks for a number or
    a moment, of these the ones with a digit. None has less than half of the names.

    Args:
        texts: (title, text) of each; what a title says belongs to each of its sentences.
        query: whose words are looked for.
        limit: at most so many, best first.
        min_share: of the query's words, that a sentence must have; 0 to 1.
    """
    sentences = [
        (index, sentence)
        for index, (_, text) in enumerate(texts)
        for sentence in split_sentences(text)
        if len(sentence) <= _MAX_QUOTE_CHARS
    ]
    whole = [f"{texts[index][0]}\n{sentence}" for index, sentence in sentences]
    wants_number = _WANTS_NUMBER.search(query) is not None
    fitting: list[tuple[tuple[int, bool], tuple[int, str]]] = []
    for one in Ranking(whole).rank(query):
        num_names = count_names(query, whole[one.index])
        if one.share < min_share or num_names is None:
            continue
        has_number = any(character.isdigit() for character in sentences[one.index][1])
        order = (-num_names, wants_number and not has_number)
        fitting.append((order, sentences[one.index]))
    fitting.sort(key=lambda one: one[0])
    return [sentence for _, sentence in fitting[:limit]]


def _group(sentences: Sequence[str]) -> list[str]:
    """Put neighbouring sentences together, so that what belongs together stays so."""
    groups: list[str] = []
    for sentence in sentences:
        if groups and len(f"{groups[-1]} {sentence}".encode()) <= _PASSAGE_BYTES:
            groups[-1] = f"{groups[-1]} {sentence}"
        else:
            groups.append(sentence)
    return groups

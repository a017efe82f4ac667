"""Finds the places of a text that have most to do with a question."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.retrieval.sentences import split_sentences
from mm_orch.search.ranking import Ranking

if TYPE_CHECKING:
    from collections.abc import Sequence

_PASSAGE_BYTES = 500
_MAX_QUOTE_CHARS = 400


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

    Args:
        texts: (title, text) of each; what a title says belongs to each of its sentences.
        query: whose words are looked for.
        limit: at most so many, best first.
        min_share: of what the query's words weigh, that a sentence must have; 0 to 1.
    """
    sentences = [
        (index, sentence)
        for index, (_, text) in enumerate(texts)
        for sentence in split_sentences(text)
        if len(sentence) <= _MAX_QUOTE_CHARS
    ]
    ranking = Ranking([f"{texts[index][0]}\n{sentence}" for index, sentence in sentences])
    fitting = [one for one in ranking.rank(query) if one.share >= min_share]
    return [sentences[one.index] for one in fitting[:limit]]


def _group(sentences: Sequence[str]) -> list[str]:
    """Put neighbouring sentences together, so that what belongs together stays so."""
    groups: list[str] = []
    for sentence in sentences:
        if groups and len(f"{groups[-1]} {sentence}".encode()) <= _PASSAGE_BYTES:
            groups[-1] = f"{groups[-1]} {sentence}"
        else:
            groups.append(sentence)
    return groups

"""The sentences of the best passages, as places where the answer may stand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mm_orch.retrieval.sentences import split_sentences
from mm_orch.retrieval.terms import terms_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.storage.documents import Passage

# So that even what has a token for every three bytes fits small embedding models.
_MAX_BYTES = 600
_MAX_STATEMENTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A sentence of a passage.

    Attributes:
        sentence: word for word.
        heading: what the passage stands under.
        passage: its place among the passages, from 0.
        terms: of both.
        cosine: with the question; None where it is not known.
    """

    sentence: str
    heading: str
    passage: int
    terms: frozenset[str]
    cosine: float | None = None

    @property
    def content(self) -> str:
        """What is embedded of it: its title too, which may name what it is about."""
        title = self.heading.split(" > ", 1)[0]
        text = f"{title}: {self.sentence}" if title else self.sentence
        return text.encode()[:_MAX_BYTES].decode(errors="ignore")


def find_places(passages: Sequence[Passage]) -> tuple[Place, ...]:
    """Return the sentences of passages, those of the first passage first."""
    places = [
        Place(
            sentence=sentence,
            heading=passage.heading,
            passage=index,
            terms=frozenset(terms_of(f"{passage.heading}\n{sentence}")),
        )
        for index, passage in enumerate(passages)
        for sentence in split_sentences(passage.text)
    ]
    return tuple(places[:_MAX_STATEMENTS])


def with_cosines(places: Sequence[Place], cosines: Sequence[float]) -> tuple[Place, ...]:
    """Return the same places with what was measured of each."""
    return tuple(
        replace(place, cosine=cosine) for place, cosine in zip(places, cosines, strict=True)
    )

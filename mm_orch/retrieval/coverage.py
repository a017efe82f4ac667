"""How much of what is asked stands in a text, rare words counting more."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence


def weigh_terms(terms: Iterable[str], pool: Sequence[Collection[str]]) -> dict[str, float]:
    """Return how much each term counts: the more, the fewer of what was found have it.

    Source: the inverse document frequency of BM25, of the pool in place of all documents.
    """
    total = len(pool)
    counts = {term: sum(term in one for one in pool) for term in terms}
    return {
        term: math.log(1 + (total - count + 0.5) / (count + 0.5)) for term, count in counts.items()
    }


def share_of(
    weights: Mapping[str, float], wanted: Collection[str], there: Collection[str]
) -> float:
    """Return the share of the wanted terms' weight that is there; 1 where none is wanted."""
    total = sum(weights[term] for term in wanted)
    return sum(weights[term] for term in wanted if term in there) / total if total else 1.0

"""Says how sure it is that passages answer a question, whatever a model would make of them.

Numbers are measured of what was found: how near the best passage and the best sentence are to the
question, and how much of its words, names and codes stands in them, rare ones counting more. A
logistic regression that was fitted to the development questions of ``benchmarks/rag`` makes a
probability of them. Where one search or the reading has failed, there is a smaller one that does
without its numbers.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mm_orch.retrieval.coverage import share_of, weigh_terms
from mm_orch.retrieval.fusion import NUM_READ, Candidate
from mm_orch.retrieval.terms import read_question

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mm_orch.retrieval.places import Place

WEIGHTS_PATH = Path(__file__).with_name("evidence_weights.json")
FORMAT = 1
_ASKS_NUMBER = re.compile(
    r"\b(?:how (?:many|much|long|deep|high|tall|old|far|heavy|great|often|wide|fast|large)|when"
    r"|what (?:year|date|number|depth|height|size|weight|price|surplus|fare)|cost|since when)\b",
    re.IGNORECASE,
)


class EvidenceModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A logistic regression.

    Attributes:
        features: names of what is measured.
        weights: one for each.
        bias: what is added.
        threshold: the probability from which on there is an answer.
    """

    features: tuple[str, ...]
    weights: tuple[float, ...]
    bias: float
    threshold: float

    def probability(self, measured: Mapping[str, float]) -> float:
        """Return how sure it is; all its features must have been measured."""
        score = self.bias + sum(
            weight * measured[name]
            for name, weight in zip(self.features, self.weights, strict=True)
        )
        return 1 / (1 + math.exp(-max(-700.0, min(700.0, score))))


class EvidenceModels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of them, that which asks for the most first.

    Attributes:
        format: of the file.
        questions_digest: of the questions that they were fitted to.
    """

    format: int
    questions_digest: str
    models: tuple[EvidenceModel, ...]

    def find(self, measured: Collection[str]) -> EvidenceModel:
        """Return the first whose features have all been measured; the last one needs words alone.

        Raises:
            ValueError: there is none.
        """
        for model in self.models:
            if all(name in measured for name in model.features):
                return model
        raise ValueError(f"No model of evidence does with {sorted(measured)}.")


def load_models(path: Path = WEIGHTS_PATH) -> EvidenceModels:
    """Return the models of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or of another format.
    """
    try:
        models = msgspec.json.decode(path.read_bytes(), type=EvidenceModels)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error
    if models.format != FORMAT:
        raise ValueError(f"{path.name} has format {models.format}; {FORMAT} is read.")
    for model in models.models:
        if len(model.weights) != len(model.features):
            raise ValueError(f"{path.name} has not one weight for each feature.")
    return models


def measure(
    question: str, candidates: Sequence[Candidate], places: Sequence[Place]
) -> dict[str, float]:
    """Return what is measured of what was found for a question.

    Args:
        question: as it was asked.
        candidates: all that were found, the best first; at least one.
        places: sentences of the first of them.
    """
    asked = read_question(question)
    pool = [one.terms for one in candidates]
    weights = weigh_terms(asked.content, pool)
    read = pool[:NUM_READ]
    keys = asked.keys
    measured = {
        "coverage": max(share_of(weights, asked.content, terms) for terms in read),
        "keys": max(share_of(weights, keys, terms) for terms in read),
        "place_coverage": max(
            (share_of(weights, asked.content, place.terms) for place in places), default=0.0
        ),
        "absent": 1 - share_of(weights, asked.content, frozenset[str]().union(*pool)),
        "absent_keys": float(len(keys - frozenset[str]().union(*pool))),
        "asks_number": float(_ASKS_NUMBER.search(question) is not None),
        "num_keys": float(min(len(keys), 4)),
    }
    cosines = sorted((one.cosine for one in candidates if one.cosine is not None), reverse=True)
    if cosines:
        measured["cosine"] = cosines[0]
        measured["lead"] = cosines[0] - cosines[min(len(cosines) - 1, 2 * NUM_READ)]
    near = [place for place in places if place.cosine is not None]
    if near:
        measured |= _measure_places(near, weights, asked.content)
    return measured


def _measure_places(
    places: Sequence[Place], weights: Mapping[str, float], content: Collection[str]
) -> dict[str, float]:
    best = max(places, key=lambda place: rank_place(place, weights, content))
    return {
        "place_cosine": max(place.cosine or 0.0 for place in places),
        "place": rank_place(best, weights, content),
        "place_both": (best.cosine or 0.0) * share_of(weights, content, best.terms),
    }


def rank_place(place: Place, weights: Mapping[str, float], content: Collection[str]) -> float:
    """Return how likely the answer stands in a place, by nearness and by words."""
    covered = share_of(weights, content, place.terms)
    return covered if place.cosine is None else 0.5 * (covered + place.cosine)


def choose_quotes(
    question: str, candidates: Sequence[Candidate], places: Sequence[Place], limit: int
) -> list[Place]:
    """Return the sentences that most likely hold the answer, the likeliest first.

    Args:
        question: as it was asked.
        candidates: all that were found.
        places: sentences of the first of them.
        limit: most sentences.
    """
    content = read_question(question).content
    weights = weigh_terms(content, [one.terms for one in candidates])
    ranked = sorted(places, key=lambda place: -rank_place(place, weights, content))
    # Overlapping chunks have some sentences in common.
    return list({place.sentence: place for place in reversed(ranked)}.values())[::-1][:limit]

"""Says how sure it is that passages answer a question, whatever a model would make of them.

Numbers are measured of what was found: how much of the question's words, names and codes stands
there, rare ones counting more, and how near the nearest passage is. Two logistic regressions that
were fitted to the development questions of ``benchmarks/rag`` make probabilities of them: that the
documents are about such things at all, and that they tell what is asked. Both must hold, so the
product counts. Where vectors could not be searched, another pair does without the nearness.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from mm_orch.retrieval.coverage import share_of, weigh_terms
from mm_orch.retrieval.fusion import NUM_READ, Candidate
from mm_orch.retrieval.terms import read_question

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mm_orch.retrieval.places import Place

WEIGHTS_PATH = Path(__file__).with_name("evidence_weights.json")
FORMAT = 1
# Words beyond these change nothing: few of the questions that it was fitted to have as many.
_MAX_LENGTH, _MAX_MISSING = 9, 12.0
# Of a sentence's rank, for how well its passage fits; measured on the development questions.
_PASSAGE_WEIGHT = 0.6


class Regression(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A logistic regression.

    Attributes:
        features: names of what is measured.
        weights: one for each.
        bias: what is added.
    """

    features: tuple[str, ...]
    weights: tuple[float, ...]
    bias: float

    def probability(self, measured: Mapping[str, float]) -> float:
        """Return what it says; all its features must have been measured."""
        score = self.bias + sum(
            weight * measured[name]
            for name, weight in zip(self.features, self.weights, strict=True)
        )
        return 1 / (1 + math.exp(-max(-700.0, min(700.0, score))))


class EvidenceModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What decides whether there is an answer.

    Attributes:
        about: that the documents are about such things.
        told: that they tell what is asked, if they are.
        threshold: the probability from which on there is an answer.
    """

    about: Regression
    told: Regression
    threshold: float

    @property
    def features(self) -> frozenset[str]:
        """What must have been measured."""
        return frozenset((*self.about.features, *self.told.features))

    def probability(self, measured: Mapping[str, float]) -> float:
        """Return how sure it is that there is an answer."""
        return self.about.probability(measured) * self.told.probability(measured)


class Evidence(NamedTuple):
    """What was decided.

    Attributes:
        probability: that there is an answer.
        is_enough: there is one.
    """

    probability: float
    is_enough: bool


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
            if model.features <= set(measured):
                return model
        raise ValueError(f"No model of evidence does with {sorted(measured)}.")

    def judge(self, measured: Mapping[str, float], threshold: float | None = None) -> Evidence:
        """Decide whether there is an answer.

        Args:
            measured: as :func:`measure` gives it.
            threshold: the probability from which on there is one; None for the model's own.

        Raises:
            ValueError: no model does with what was measured.
        """
        model = self.find(measured)
        probability = model.probability(measured)
        least = model.threshold if threshold is None else threshold
        return Evidence(probability, probability >= least)


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
    for one in (part for model in models.models for part in (model.about, model.told)):
        if len(one.weights) != len(one.features):
            raise ValueError(f"{path.name} has not one weight for each feature.")
    return models


def measure(question: str, candidates: Sequence[Candidate]) -> dict[str, float]:
    """Return what is measured of what was found for a question.

    Args:
        question: as it was asked.
        candidates: all that were found, the best first; at least one.

    Returns:
        keys: the share of the question's names, numbers and codes that one passage has; 1 where it
            has none.
        named: the same; 0 where it has none.
        coverage: the share of its words that what was found of the best passage's document has.
        length: how many words it has, up to nine, as a logarithm: the more it says in its own
            words, the smaller a share of them stands in a passage that answers it.
        missing: how many of its words that document has not, up to twelve, rare ones counting more.
        cosine: of the nearest passage, and ``near_keys``, that times ``keys``; where vectors were
            searched.
    """
    asked = read_question(question)
    weights = weigh_terms(asked.content, [one.terms for one in candidates])
    keys = max(share_of(weights, asked.keys, one.terms) for one in candidates[:NUM_READ])
    best = candidates[0].chunk.document_id
    of_document = frozenset[str]().union(
        *(one.terms for one in candidates if one.chunk.document_id == best)
    )
    num_words = len(asked.content)
    coverage = share_of(weights, asked.content, of_document)
    measured = {
        "keys": keys,
        "named": keys if asked.keys else 0.0,
        "coverage": coverage,
        "missing": min(num_words * (1 - coverage), _MAX_MISSING),
        "length": math.log1p(min(num_words, _MAX_LENGTH)),
    }
    cosines = [one.cosine for one in candidates if one.cosine is not None]
    if cosines:
        nearest = max(cosines)
        measured |= {"cosine": nearest, "near_keys": keys * nearest}
    return measured


def choose_quotes(
    question: str, candidates: Sequence[Candidate], places: Sequence[Place], limit: int
) -> list[Place]:
    """Return the sentences that most likely hold the answer, the likeliest first, each once.

    Args:
        question: as it was asked.
        candidates: all that were found, the best first.
        places: sentences of the first of them.
        limit: most sentences.
    """
    content = read_question(question).content
    weights = weigh_terms(content, [one.terms for one in candidates])

    def rank(place: Place) -> float:
        covered = share_of(weights, content, place.terms)
        own = covered if place.cosine is None else (covered + place.cosine) / 2
        return own + _PASSAGE_WEIGHT * candidates[place.passage].score

    # Overlapping chunks have some sentences in common.
    first: dict[str, Place] = {}
    for place in sorted(places, key=rank, reverse=True):
        first.setdefault(place.sentence, place)
    return list(first.values())[:limit]

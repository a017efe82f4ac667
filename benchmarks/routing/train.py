"""Fits the weights of the rules and of the learned router to the labelled queries.

usage: python -m benchmarks.routing.train

Reads train.jsonl and more_train.jsonl, never held_out.jsonl, and writes the two files of weights in
mm_orch/routing, and what a router that had not seen them believes of the queries of train.jsonl,
which whatever is learned later is checked against. Nothing is random but the folds, which come from
a seed.

A signal has a weight for each workflow. The learned router has those of the hashed features and of
what words mean besides. Both minimise cross-entropy with a quadratic penalty.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from benchmarks.results_file import write_results
from benchmarks.routing.fitting import SparseRows, fit_dense, fit_sparse, make_rows, softmax
from benchmarks.routing.labelled import load_part
from benchmarks.routing.word_vectors import WordVectors
from mm_orch.routing.development import DEVELOPMENT_PATH, DevelopmentHeader, save_development
from mm_orch.routing.features import (
    NUM_BUCKETS,
    SIGNAL_SCALE,
    find_latin_words,
    hash_features,
)
from mm_orch.routing.learned import LEARNED_PATH, make_header, save_learned
from mm_orch.routing.query import prepare_query
from mm_orch.routing.route import WORKFLOWS, RouteContext
from mm_orch.routing.rules import (
    RULES_PATH,
    RuleWeights,
    WorkflowWeights,
    all_signals,
    gather_evidence,
    weigh,
)
from mm_orch.routing.tables import digest_tables

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.routing.labelled import LabelledQuery
    from mm_orch.routing.rules import Evidence

TRAINING_RESULTS_PATH = Path(__file__).parents[1] / "results" / "routing_training.json"
NUM_FOLDS = 4
_LEAST_SHARE = 1e-12
_FOLD_SEED = 0
_RULE_PENALTY = 1e-4
_NOTHING: WorkflowWeights = (0.0, 0.0, 0.0, 0.0, 0.0)
_LEARNED_PENALTY = 5e-5
# More queries are plainer; these are like what is measured on.
_DEVELOPED_IMPORTANCE = 3.0
_TEMPERATURES = tuple(round(0.5 + 0.05 * step, 2) for step in range(51))
_CONFIDENCES = tuple(round(0.3 + 0.02 * step, 2) for step in range(16))


@dataclass(frozen=True, slots=True)
class Examples:
    """Labelled queries as numbers.

    Attributes:
        labels: places in WORKFLOWS, int64.
        is_developed: those of train.jsonl, which figures are given for.
        evidence: what was seen of each query.
        keys: of signals and circumstances, the columns of values.
        values: queries x keys, float64.
        importance: what each query counts for in a fit.
        vectors: of words.
        rows: of features: the hashed ones, then the values, which are scaled, then those of words.
    """

    labels: NDArray[np.int64]
    is_developed: NDArray[np.bool_]
    evidence: list[Evidence]
    keys: tuple[str, ...]
    values: NDArray[np.float64]
    importance: NDArray[np.float64]
    vectors: WordVectors
    rows: SparseRows


def load_examples() -> Examples:
    """Return everything there is to learn from."""
    developed, more = load_part("train"), load_part("more_train")
    queries = [*developed, *more]
    contexts = [context_of(one) for one in queries]
    prepared = [prepare_query(one.query) for one in queries]
    evidence = list(map(gather_evidence, prepared, contexts))
    rows = list(map(hash_features, prepared, contexts, evidence))
    values_by_key = [one.values for one in evidence]
    keys = tuple(sorted({key for values in values_by_key for key in values}))
    column_by_key = {key: NUM_BUCKETS + place for place, key in enumerate(keys)}
    words_of_queries = list(map(find_latin_words, prepared))
    vectors = WordVectors(words_of_queries)
    begin = NUM_BUCKETS + len(keys)
    for row, values, words, context in zip(
        rows, values_by_key, words_of_queries, contexts, strict=True
    ):
        row.update((column_by_key[key], SIGNAL_SCALE * value) for key, value in values.items())
        meanings = vectors.features(words, has_documents=context.has_documents)
        row.update(
            (begin + int(place), float(meanings[place])) for place in np.flatnonzero(meanings)
        )
    labels = np.array([WORKFLOWS.index(one.label) for one in queries])
    is_developed = np.arange(len(queries)) < len(developed)
    return Examples(
        labels=labels,
        is_developed=is_developed,
        evidence=evidence,
        keys=keys,
        values=np.array([[one.get(key, 0.0) for key in keys] for one in values_by_key]),
        importance=_weigh_queries(labels, is_developed),
        vectors=vectors,
        rows=make_rows(rows, begin + vectors.num_columns),
    )


def context_of(query: LabelledQuery) -> RouteContext:
    """Return the router's own form of a labelled context."""
    return RouteContext(
        has_documents=query.context.has_documents, has_session=query.context.has_session
    )


def digest_queries() -> str:
    """Return a digest of the queries that are learned from, with labels and contexts."""
    queries = [*load_part("train"), *load_part("more_train")]
    return hashlib.sha256(msgspec.json.encode(queries)).hexdigest()[:16]


def fit_rules(examples: Examples, places: NDArray[np.int64]) -> RuleWeights:
    """Return the weights of the rules for these of the queries."""
    fitted = fit_dense(
        examples.values[places],
        examples.labels[places],
        importance=examples.importance[places],
        penalty=_RULE_PENALTY,
    )
    rows = msgspec.convert(fitted.astype(np.float64).round(2).tolist(), list[WorkflowWeights])
    row_by_key = dict(zip(examples.keys, rows, strict=True))
    signal_keys = {signal.key for signal in all_signals()}
    # A signal that no query has is worth nothing.
    weights = {key: row_by_key.get(key, _NOTHING) for key in signal_keys}
    biases = {key: row for key, row in row_by_key.items() if key not in signal_keys}
    return RuleWeights(tables_digest=digest_tables(), weights=weights, biases=biases)


def cross_validate(examples: Examples) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the rules' and the learned scores of each query, fitted without its fold.

    Queries x workflows; the softmax of a row are shares.
    """
    num_queries = len(examples.labels)
    folds = np.random.default_rng(_FOLD_SEED).permutation(num_queries) % NUM_FOLDS
    by_rules = np.zeros((num_queries, len(WORKFLOWS)))
    learned = np.zeros_like(by_rules)
    for fold in range(NUM_FOLDS):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        weights = fit_rules(examples, inside)
        votes = [weigh(examples.evidence[place], weights) for place in outside]
        by_rules[outside] = np.log([np.maximum(vote.shares, _LEAST_SHARE) for vote in votes])
        learned[outside] = examples.rows.take(outside).times(fit_learned(examples, inside))
    return by_rules, learned


def fit_learned(examples: Examples, places: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the weights of all features for these of the queries, columns x workflows."""
    return fit_sparse(
        examples.rows.take(places),
        examples.labels[places],
        importance=examples.importance[places],
        penalty=_LEARNED_PENALTY,
    )


def _weigh_queries(
    labels: NDArray[np.int64], is_developed: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return what queries count for: all classes the same, those of train.jsonl more."""
    importance = np.where(is_developed, _DEVELOPED_IMPORTANCE, 1.0)
    importance /= np.bincount(labels, weights=importance)[labels]
    return importance


def main() -> int:
    """Fit, say what cross-validation says, write."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    examples = load_examples()
    by_rules, learned = cross_validate(examples)
    temperature = min(_TEMPERATURES, key=lambda one: _loss(learned / one, examples.labels))
    shares = softmax(learned / temperature)
    min_confidence = max(
        _CONFIDENCES, key=lambda one: _num_right(shares, softmax(by_rules), one, examples.labels)
    )
    figures: dict[str, object] = {"num_learned": len(examples.labels)}
    for name, scores in (("rules", by_rules), ("learned", learned)):
        right = scores.argmax(axis=1) == examples.labels
        for part, is_part in (
            ("train", examples.is_developed),
            ("more_train", ~examples.is_developed),
        ):
            figures[f"{part}_{name}_accuracy_rate"] = round(float(right[is_part].mean()), 3)
    figures |= {"temperature": temperature, "min_confidence": min_confidence}
    print(figures)
    write_results(TRAINING_RESULTS_PATH.stem, figures)
    everything = np.arange(len(examples.labels))
    RULES_PATH.write_bytes(
        msgspec.json.format(msgspec.json.encode(fit_rules(examples, everything), order="sorted"))
        + b"\n"
    )
    _write_learned(examples, temperature, min_confidence)
    is_sure = shares.max(axis=1, keepdims=True) >= min_confidence
    beliefs = np.where(is_sure, shares, softmax(by_rules))
    _write_development(examples, beliefs)
    print(f"written: {RULES_PATH.name}, {LEARNED_PATH.name}, {DEVELOPMENT_PATH.name}")
    return 0


def _loss(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    shares = softmax(scores)
    return float(-np.log(shares[np.arange(len(labels)), labels]).mean())


def _num_right(
    learned: NDArray[np.float64],
    by_rules: NDArray[np.float64],
    min_confidence: float,
    labels: NDArray[np.int64],
) -> int:
    is_sure = learned.max(axis=1) >= min_confidence
    chosen = np.where(is_sure, learned.argmax(axis=1), by_rules.argmax(axis=1))
    return int((chosen == labels).sum())


def _write_learned(examples: Examples, temperature: float, min_confidence: float) -> None:
    fitted = fit_learned(examples, np.arange(len(examples.labels)))
    ends = [NUM_BUCKETS, NUM_BUCKETS + len(examples.keys)]
    bucket_weights, signal_weights, meaning_weights = np.split(fitted, ends)
    save_learned(
        LEARNED_PATH,
        make_header(
            queries_digest=digest_queries(),
            signal_keys=examples.keys,
            temperature=temperature,
            min_confidence=min_confidence,
        ),
        bucket_weights=bucket_weights,
        words=examples.vectors.words,
        word_weights=examples.vectors.weigh(meaning_weights),
        signal_weights=signal_weights,
    )


def _write_development(examples: Examples, beliefs: NDArray[np.float64]) -> None:
    save_development(
        DevelopmentHeader(
            queries_digest=digest_queries(), tables_digest=digest_tables(), workflows=WORKFLOWS
        ),
        beliefs[examples.is_developed],
        examples.labels[examples.is_developed],
    )


if __name__ == "__main__":
    sys.exit(main())

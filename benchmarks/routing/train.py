"""Fits the weights of the rules and of the learned router to the labelled queries.

usage: python -m benchmarks.routing.train

Reads train.jsonl and more_train.jsonl, never held_out.jsonl, and writes the two files of weights in
mm_orch/routing. Nothing is random but the folds, which come from a seed.

The rules have one weight a signal, for its own workflow. The learned router has one for each
workflow, and those of the hashed features. Both minimise cross-entropy with a quadratic penalty.
The weights lie in the span of the queries: a matrix of queries by queries is all that is needed.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from benchmarks.routing.fitting import fit_dual, fit_masked, softmax
from benchmarks.routing.labelled import load_part
from mm_orch.routing.features import NUM_BUCKETS, SIGNAL_SCALE, hash_features
from mm_orch.routing.learned import LEARNED_PATH, make_header, save_learned
from mm_orch.routing.query import prepare_query
from mm_orch.routing.route import WORKFLOWS, RouteContext
from mm_orch.routing.rules import (
    RULES_PATH,
    RuleWeights,
    all_signals,
    gather_evidence,
    weigh,
)
from mm_orch.routing.tables import digest_tables

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.routing.labelled import LabelledQuery
    from mm_orch.routing.rules import Evidence

NUM_FOLDS = 5
_LEAST_SHARE = 1e-12
_FOLD_SEED = 0
_RULE_PENALTY = 3e-4
_LEARNED_PENALTY = 5e-5
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
        buckets: of each query's hashed features, with their weights.
        gram: queries x queries, products of all features.
    """

    labels: NDArray[np.int64]
    is_developed: NDArray[np.bool_]
    evidence: list[Evidence]
    keys: tuple[str, ...]
    values: NDArray[np.float64]
    buckets: list[dict[int, float]]
    gram: NDArray[np.float64]


def load_examples() -> Examples:
    """Return everything there is to learn from."""
    developed, more = load_part("train"), load_part("more_train")
    queries = [*developed, *more]
    evidence, buckets = [], []
    for one in queries:
        context = context_of(one)
        prepared = prepare_query(one.query)
        evidence.append(gather_evidence(prepared, context))
        buckets.append(hash_features(prepared, context, evidence[-1]))
    values_by_key = [one.values for one in evidence]
    keys = tuple(sorted({key for values in values_by_key for key in values}))
    values = np.array([[one.get(key, 0.0) for key in keys] for one in values_by_key])
    return Examples(
        labels=np.array([WORKFLOWS.index(one.label) for one in queries]),
        is_developed=np.arange(len(queries)) < len(developed),
        evidence=evidence,
        keys=keys,
        values=values,
        buckets=buckets,
        gram=_multiply(buckets) + SIGNAL_SCALE**2 * values @ values.T,
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
    own_by_key = {signal.key: signal.workflow for signal in all_signals()}
    mask = np.array(
        [
            [key not in own_by_key or own_by_key[key] == workflow for workflow in WORKFLOWS]
            for key in examples.keys
        ]
    )
    fitted = fit_masked(
        examples.values[places], examples.labels[places], mask, penalty=_RULE_PENALTY
    )
    row_by_key = dict(zip(examples.keys, fitted.round(2).tolist(), strict=True))
    # A signal that no query has is worth nothing.
    weights = {
        key: row_by_key[key][WORKFLOWS.index(workflow)] if key in row_by_key else 0.0
        for key, workflow in own_by_key.items()
    }
    biases = {key: row for key, row in row_by_key.items() if key not in own_by_key}
    return RuleWeights(
        tables_digest=digest_tables(), weights=weights, biases=msgspec.convert(biases, _Biases)
    )


_Biases = dict[str, tuple[float, float, float, float, float]]


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
        dual = fit_dual(
            examples.gram[np.ix_(inside, inside)], examples.labels[inside], _LEARNED_PENALTY
        )
        learned[outside] = examples.gram[np.ix_(outside, inside)] @ dual
    return by_rules, learned


def _multiply(buckets: list[dict[int, float]]) -> NDArray[np.float64]:
    """Return the products of all pairs of rows, queries x queries."""
    holders: dict[int, list[tuple[int, float]]] = {}
    for place, row in enumerate(buckets):
        for bucket, weight in row.items():
            holders.setdefault(bucket, []).append((place, weight))
    products = np.zeros((len(buckets), len(buckets)))
    for pairs in holders.values():
        places = np.array([place for place, _ in pairs])
        weights = np.array([weight for _, weight in pairs])
        products[np.ix_(places, places)] += np.outer(weights, weights)
    return products


def main() -> int:
    """Fit, print what cross-validation says, write."""
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
    for name, scores in (("rules", by_rules), ("learned", learned)):
        right = scores.argmax(axis=1) == examples.labels
        print(f"{name}, cross-validated: {right[examples.is_developed].mean():.4f} of train.jsonl,")
        print(f"    {right[~examples.is_developed].mean():.4f} of more_train.jsonl")
    print(f"temperature {temperature}, least confidence {min_confidence}")
    everything = np.arange(len(examples.labels))
    RULES_PATH.write_bytes(
        msgspec.json.format(msgspec.json.encode(fit_rules(examples, everything), order="sorted"))
        + b"\n"
    )
    _write_learned(examples, temperature, min_confidence)
    print(f"written: {RULES_PATH.name}, {LEARNED_PATH.name}")
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
    dual = fit_dual(examples.gram, examples.labels, _LEARNED_PENALTY)
    bucket_weights = np.zeros((NUM_BUCKETS, len(WORKFLOWS)))
    for row, share in zip(examples.buckets, dual, strict=True):
        bucket_weights[list(row)] += np.outer(list(row.values()), share)
    save_learned(
        LEARNED_PATH,
        make_header(
            queries_digest=digest_queries(),
            signal_keys=examples.keys,
            temperature=temperature,
            min_confidence=min_confidence,
        ),
        bucket_weights=bucket_weights,
        signal_weights=SIGNAL_SCALE * examples.values.T @ dual,
    )


if __name__ == "__main__":
    sys.exit(main())

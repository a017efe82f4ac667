"""Shares of right routes, their intervals, and that the weights are those of the queries."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.routing.fitting import fit_dense, fit_sparse, make_rows, softmax
from benchmarks.routing.labelled import load_part
from benchmarks.routing.measure import leave_out_learned
from benchmarks.routing.scoring import (
    confusion,
    per_class,
    rate_by_language,
    rate_right,
    wilson,
)
from benchmarks.routing.train import digest_queries
from benchmarks.routing.word_vectors import WordVectors
from mm_orch.routing.learned import load_learned

CHOICES = [
    ("en", "chat_generate", "chat_generate"),
    ("en", "chat_generate", "search_qa"),
    ("zh", "search_qa", "search_qa"),
    ("zh", "search_qa", "search_qa"),
]


@pytest.mark.parametrize(
    ("num_right", "num_all", "low", "high"),
    # R: prop.test(x, n, correct = FALSE).
    [(8, 10, 0.490, 0.943), (0, 10, 0.0, 0.278), (10, 10, 0.722, 1.0), (330, 355, 0.898, 0.952)],
)
def test_intervals_are_wilsons(num_right: int, num_all: int, low: float, high: float) -> None:
    rate = wilson(num_right, num_all)

    assert rate.share == num_right / num_all
    assert (rate.low, rate.high) == (pytest.approx(low, abs=6e-4), pytest.approx(high, abs=6e-4))


@pytest.mark.parametrize(("num_right", "num_all"), [(0, 0), (2, 1), (-1, 4)])
def test_what_is_no_share_is_refused(num_right: int, num_all: int) -> None:
    with pytest.raises(ValueError, match="is no share"):
        wilson(num_right, num_all)


def test_scores_count_by_class_and_language() -> None:
    assert rate_right(CHOICES).share == 0.75
    assert [rates[0] for rates in rate_by_language(CHOICES).values()] == [0.5, 1.0]
    rows = {row["class"]: row for row in per_class(CHOICES)}
    assert list(rows) == ["search_qa", "chat_generate"]
    assert (rows["search_qa"]["precision"], rows["search_qa"]["recall"]) == (0.667, 1.0)
    assert rows["search_qa"]["f1"] == 0.8
    assert confusion(CHOICES)["chat_generate"]["search_qa"] == 1


def test_both_fits_learn_what_can_be_told_apart() -> None:
    labels = np.arange(50) % 5
    values = np.eye(5)[labels]
    rows = make_rows([{int(label): 1.0} for label in labels], 5)
    importance = np.ones(50)
    sparse = fit_sparse(rows, labels, importance=importance, penalty=1e-4)
    dense = fit_dense(values, labels, importance=importance, penalty=1e-4)

    assert (softmax(rows.times(sparse)).argmax(axis=1) == labels).all()
    assert np.allclose(sparse, dense, atol=1e-3)


def test_a_fit_goes_by_what_counts_more() -> None:
    rows = make_rows([{0: 1.0}, {0: 1.0}], 1)
    labels = np.array([1, 3])

    for importance, label in (([3.0, 1.0], 1), ([1.0, 3.0], 3)):
        weights = fit_sparse(rows, labels, importance=np.array(importance), penalty=1e-4)
        assert weights[0].argmax() == label


def test_sparse_rows_are_taken_in_any_order_empty_ones_too() -> None:
    rows = make_rows([{2: 1.0, 0: 3.0}, {}, {1: 2.0}], 3)

    whole = rows.take(np.array([2, 1, 0, 2])).times(np.eye(3, dtype=np.float32))

    assert whole.tolist() == [[0, 2, 0], [0, 0, 0], [3, 0, 1], [0, 2, 0]]


def test_what_a_word_speaks_for_is_what_its_features_add() -> None:
    vectors = WordVectors([["volcano", "the", "the"], ["the"]])
    weights = np.random.default_rng(0).normal(size=(vectors.num_columns, 5)).astype(np.float32)
    words = ["the", "volcano", "zxqv"]
    places = [vectors.words.index(word) for word in ("the", "volcano", "")]

    by_word = vectors.weigh(weights)[places].sum(axis=0) / np.sqrt(3)

    always = vectors.features(words, has_documents=False) @ weights
    assert np.allclose(by_word[:5], always, atol=1e-4)
    both = vectors.features(words, has_documents=True) @ weights
    assert np.allclose(by_word[:5] + by_word[5:], both, atol=1e-4)
    assert not vectors.features([], has_documents=True).any()


def test_the_committed_weights_were_learned_from_the_committed_queries() -> None:
    assert load_learned().header.queries_digest == digest_queries()


def test_a_query_that_was_learned_from_is_not_measured_on() -> None:
    learned, new = load_part("train")[0], load_part("train")[1]

    assert leave_out_learned([learned, new], [learned]) == [new]

"""Multinomial logistic regression with a quadratic penalty, by accelerated gradient descent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NUM_DUAL_STEPS = 300
_NUM_MASKED_STEPS = 600
_NUM_POWER_STEPS = 30
_STEP_SIZE = 0.05
_KEPT_MEAN, _KEPT_SQUARE = 0.9, 0.999
NUM_CLASSES = 5


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each row's shares."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def fit_dual(
    gram: NDArray[np.float64], labels: NDArray[np.int64], penalty: float
) -> NDArray[np.float64]:
    """Return what each example adds to the weights of each class, examples x classes.

    Nesterov's accelerated gradient descent; the weights are the features, transposed, times this.

    Args:
        gram: products of the features of all pairs of examples.
        labels: classes.
        penalty: of half the squared weights.
    """
    targets = np.eye(NUM_CLASSES)[labels]
    step = 1 / (_largest_eigenvalue(gram) / (2 * len(labels)) + penalty)
    dual = np.zeros_like(targets)
    ahead, pace = dual, 1.0
    for _ in range(_NUM_DUAL_STEPS):
        gradient = (softmax(gram @ ahead) - targets) / len(labels) + penalty * ahead
        moved = ahead - step * gradient
        next_pace = (1 + np.sqrt(1 + 4 * pace * pace)) / 2
        ahead = moved + (pace - 1) / next_pace * (moved - dual)
        dual, pace = moved, next_pace
    return dual


def fit_masked(
    values: NDArray[np.float64],
    labels: NDArray[np.int64],
    mask: NDArray[np.bool_],
    *,
    penalty: float,
) -> NDArray[np.float64]:
    """Return weights, features x classes, that are 0 where the mask is False (Adam, full batch).

    Args:
        values: examples x features.
        labels: classes.
        mask: features x classes.
        penalty: of half the squared weights.
    """
    targets = np.eye(NUM_CLASSES)[labels]
    weights = np.zeros(mask.shape)
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    for number in range(1, _NUM_MASKED_STEPS + 1):
        shares = softmax(values @ weights)
        gradient = (values.T @ (shares - targets) / len(labels) + penalty * weights) * mask
        mean = _KEPT_MEAN * mean + (1 - _KEPT_MEAN) * gradient
        square = _KEPT_SQUARE * square + (1 - _KEPT_SQUARE) * gradient**2
        unbiased = mean / (1 - _KEPT_MEAN**number)
        weights -= _STEP_SIZE * unbiased / (np.sqrt(square / (1 - _KEPT_SQUARE**number)) + 1e-8)
    return weights


def _largest_eigenvalue(gram: NDArray[np.float64]) -> float:
    vector = np.ones(len(gram))
    for _ in range(_NUM_POWER_STEPS):
        vector = gram @ vector
        vector /= np.linalg.norm(vector)
    return float(vector @ gram @ vector)

"""Fits the curve that turns figures of answers into the share of them that is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mm_orch.consciousness.calibration import Curve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_NUM_STEPS = 50
_SMALL_STEP = 1e-9


def fit_curve(
    figures: Sequence[Mapping[str, float]],
    outcomes: Sequence[bool],
    names: Sequence[str],
    *,
    penalty: float = 1.0,
) -> Curve:
    """Return the curve with the least cross-entropy (Platt 1999), by Newton's method.

    As Platt has it, outcomes are taken for slightly less than certain, so that figures which tell
    right from wrong without a fault still make no infinite weights.

    Args:
        figures: of each answer.
        outcomes: whether it was right.
        names: the figures that count.
        penalty: of half the squared weights, the figures being brought to variance 1; above 0.

    Raises:
        ValueError: there are no answers, or not as many outcomes.
    """
    if not figures or len(figures) != len(outcomes):
        raise ValueError(f"{len(figures)} answers cannot be fitted to {len(outcomes)} outcomes.")
    table = np.array([[one[name] for name in names] for one in figures], dtype=float)
    table = table.reshape(len(figures), len(names))
    mean = table.mean(axis=0)
    # What never varies tells nothing, and must not be divided by nothing.
    scale = np.where(table.std(axis=0) > 0, table.std(axis=0), 1.0)
    columns = np.column_stack([(table - mean) / scale, np.ones(len(figures))])
    fitted = _minimise(columns, _smooth(np.asarray(outcomes, dtype=float)), penalty)
    weights = fitted[:-1] / scale
    return Curve(
        weights={name: float(weight) for name, weight in zip(names, weights, strict=True)},
        bias=float(fitted[-1] - weights @ mean),
        num_examples=len(figures),
    )


def _smooth(outcomes: NDArray[np.float64]) -> NDArray[np.float64]:
    num_right = outcomes.sum()
    high = (num_right + 1) / (num_right + 2)
    low = 1 / (len(outcomes) - num_right + 2)
    smoothed: NDArray[np.float64] = np.where(outcomes > 0, high, low)
    return smoothed


def _minimise(
    columns: NDArray[np.float64], targets: NDArray[np.float64], penalty: float
) -> NDArray[np.float64]:
    """Return the weights of the columns, of which the last, the bias, is not penalised."""
    ridge = np.full(columns.shape[1], penalty)
    # So little that it moves nothing, and the matrix can always be inverted.
    ridge[-1] = 1e-6
    weights = np.zeros(columns.shape[1])
    for _ in range(_NUM_STEPS):
        shares = 1 / (1 + np.exp(-np.clip(columns @ weights, -30, 30)))
        slope = columns.T @ (shares - targets) + ridge * weights
        bend = (columns * (shares * (1 - shares))[:, None]).T @ columns + np.diag(ridge)
        step = np.linalg.solve(bend, slope)
        weights -= step
        if np.abs(step).max() < _SMALL_STEP:
            break
    return weights

"""Multinomial logistic regression with a quadratic penalty."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_NUM_STEPS = 60
_NUM_KEPT_STEPS = 6
_LEAST_GRADIENT = 1e-6
NUM_CLASSES = 5


@dataclass(frozen=True, slots=True)
class SparseRows:
    """Rows of numbers of which most are 0.

    Attributes:
        columns: of what is not 0, row after row, int64.
        values: what stands there, float32.
        starts: where each row begins, and where the last one ends, int64.
        num_columns: of every row.
    """

    columns: NDArray[np.int64]
    values: NDArray[np.float32]
    starts: NDArray[np.int64]
    num_columns: int

    @property
    def matrix(self) -> torch.Tensor:
        """The rows, compressed (CSR)."""
        with warnings.catch_warnings():
            # PyTorch calls this form a beta; what is used of it here is tested.
            warnings.filterwarnings(
                "ignore", message="Sparse CSR tensor support", category=UserWarning
            )
            return torch.sparse_csr_tensor(
                torch.from_numpy(self.starts),
                torch.from_numpy(self.columns),
                torch.from_numpy(self.values),
                size=(len(self.starts) - 1, self.num_columns),
                check_invariants=True,
            )

    def take(self, places: NDArray[np.int64]) -> SparseRows:
        """Return these rows, in this order."""
        lengths = np.diff(self.starts)[places]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        kept = np.arange(starts[-1]) + np.repeat(self.starts[places] - starts[:-1], lengths)
        return SparseRows(self.columns[kept], self.values[kept], starts, self.num_columns)

    def transpose(self) -> SparseRows:
        """Return the columns as rows."""
        order = np.argsort(self.columns, kind="stable")
        rows = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        counts = np.bincount(self.columns, minlength=self.num_columns)
        starts = np.concatenate([[0], np.cumsum(counts)])
        return SparseRows(rows[order], self.values[order], starts, len(self.starts) - 1)

    def times(self, weights: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the product with a matrix of num_columns rows."""
        return (self.matrix @ torch.from_numpy(weights)).numpy().astype(np.float64)


def make_rows(rows: Sequence[Mapping[int, float]], num_columns: int) -> SparseRows:
    """Return rows that are given by what stands in their columns."""
    return SparseRows(
        columns=np.array([column for row in rows for column in sorted(row)], dtype=np.int64),
        values=np.array([row[column] for row in rows for column in sorted(row)], dtype=np.float32),
        starts=np.cumsum([0, *(len(row) for row in rows)]),
        num_columns=num_columns,
    )


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each row's shares."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def fit_sparse(
    rows: SparseRows,
    labels: NDArray[np.int64],
    *,
    importance: NDArray[np.float64],
    penalty: float,
) -> NDArray[np.float32]:
    """Return weights, columns x classes.

    Args:
        rows: the examples' features.
        labels: classes.
        importance: what each example counts for.
        penalty: of half the squared weights.
    """
    return _fit(rows.matrix, rows.transpose().matrix, labels, importance, penalty)


def fit_dense(
    values: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    importance: NDArray[np.float64],
    penalty: float,
) -> NDArray[np.float32]:
    """Return the same for features of which many are not 0, examples x features."""
    features = torch.from_numpy(values.astype(np.float32))
    return _fit(features, features.T, labels, importance, penalty)


def _fit(
    features: torch.Tensor,
    transposed: torch.Tensor,
    labels: NDArray[np.int64],
    importance: NDArray[np.float64],
    penalty: float,
) -> NDArray[np.float32]:
    """Return the weights of least cross-entropy, by L-BFGS (Liu and Nocedal 1989)."""
    targets = torch.nn.functional.one_hot(torch.from_numpy(labels), NUM_CLASSES)
    shares = torch.from_numpy((importance / importance.sum()).astype(np.float32))[:, None]
    weights = torch.zeros((features.shape[1], NUM_CLASSES))
    optimizer = torch.optim.LBFGS(
        [weights],
        max_iter=_NUM_STEPS,
        history_size=_NUM_KEPT_STEPS,
        tolerance_grad=_LEAST_GRADIENT,
        line_search_fn="strong_wolfe",
    )

    def step() -> torch.Tensor:
        logs = torch.log_softmax(features @ weights, dim=1)
        weights.grad = transposed @ ((logs.exp() - targets) * shares) + penalty * weights
        return -(logs * targets * shares).sum() + 0.5 * penalty * weights.square().sum()

    optimizer.step(step)  # type: ignore[no-untyped-call]
    return weights.numpy()

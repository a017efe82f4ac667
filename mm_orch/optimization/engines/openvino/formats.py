"""Number formats of weights: what a matrix is stored as, and what that changes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

GROUP_SIZE = 32
"""Numbers of a row that share a scale, as in GGUF files."""
LOSSLESS = 2.0**-9
"""What bf16 changes a weight by at most; as root of the mean square, relative to the weights'."""

_STEPS_4 = 15
_MAX_8 = 127
_NUM_SAMPLED_ROWS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedMatrix:
    """A matrix [num_outputs, num_inputs] as whole numbers with a scale a group.

    A number is ``scale * (value - zero) + rest``, or ``scale * value`` without the other two.

    Attributes:
        values: [num_outputs, num_groups, GROUP_SIZE]; uint8 in 0..15 or int8.
        scales: [num_outputs, num_groups], fp16.
        zeros: [num_outputs, num_groups], uint8 in 0..15, or None.
        rests: [num_outputs, num_groups], fp16: what the whole-numbered zero leaves, or None.
        loss: by how much the matrix was changed, as LOSSLESS.
    """

    values: NDArray[np.uint8] | NDArray[np.int8]
    scales: NDArray[np.float16]
    zeros: NDArray[np.uint8] | None = None
    rests: NDArray[np.float16] | None = None
    loss: float


def can_quantize(matrix: NDArray[np.float32]) -> bool:
    """Whether its rows are whole groups."""
    return bool(matrix.shape[1] % GROUP_SIZE == 0)


def quantize_to_4_bits(matrix: NDArray[np.float32]) -> QuantizedMatrix:
    """Give each group sixteen steps between its least and its greatest number.

    A matrix that came from a 4-bit file is found exactly: where a group's numbers span fewer than
    fifteen of the file's steps, as many are used.
    """
    groups = _group(matrix)
    low = groups.min(axis=-1)
    steps = _as_scale(_find_steps(groups, low)).astype(np.float32)
    values = _round(groups, low, steps)
    zeros = np.clip(np.round(-low / steps), 0, _STEPS_4)
    rests = (low + steps * zeros).astype(np.float16)
    restored = steps[..., None] * (values - zeros[..., None]) + rests[..., None]
    return QuantizedMatrix(
        values=values.astype(np.uint8),
        scales=steps.astype(np.float16),
        zeros=zeros.astype(np.uint8),
        rests=rests,
        loss=_measure_loss(groups, restored),
    )


def is_lossless(
    matrix: NDArray[np.float32], quantize: Callable[[NDArray[np.float32]], QuantizedMatrix]
) -> bool:
    """Whether quantising changes the matrix by no more than bf16 does, judged by some rows."""
    return can_quantize(matrix) and quantize(_sample(matrix)).loss <= LOSSLESS


def quantize_to_8_bits(matrix: NDArray[np.float32]) -> QuantizedMatrix:
    """Give each group steps from minus to plus its greatest number."""
    groups = _group(matrix)
    scales = _as_scale(np.abs(groups).max(axis=-1) / _MAX_8)
    steps = scales.astype(np.float32)[..., None]
    values = np.clip(np.round(groups / steps), -_MAX_8, _MAX_8)
    return QuantizedMatrix(
        values=values.astype(np.int8),
        scales=scales,
        loss=_measure_loss(groups, values * steps),
    )


def _group(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    return matrix.reshape(matrix.shape[0], -1, GROUP_SIZE)


def _as_scale(scales: NDArray[np.float32]) -> NDArray[np.float16]:
    rounded = scales.astype(np.float16)
    # A group of equal numbers has no steps, and nothing is divided by zero.
    return np.where(rounded > 0, rounded, np.float16(1)).astype(np.float16)


def _round(
    groups: NDArray[np.float32], low: NDArray[np.float32], steps: NDArray[np.float32]
) -> NDArray[np.float32]:
    values: NDArray[np.float32] = np.round((groups - low[..., None]) / steps[..., None])
    return values.clip(0, _STEPS_4)


def _sample(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows[:: max(1, len(rows) // _NUM_SAMPLED_ROWS)]


def _find_steps(groups: NDArray[np.float32], low: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each group's step: of fifteen in its span, or of fewer where those fit better."""
    span: NDArray[np.float32] = groups.max(axis=-1) - low
    best: NDArray[np.float32] = span / np.float32(_STEPS_4)
    if len(groups) > 2 * _NUM_SAMPLED_ROWS:
        some, some_low = _sample(groups), _sample(low)
        if _measure_steps(some, some_low, _find_steps(some, some_low)).mean() > LOSSLESS**2:
            # They never were on steps: no use in looking for those.
            return best
    errors = _measure_steps(groups, low, best)
    for num_steps in range(_STEPS_4 - 1, 0, -1):
        places = np.nonzero(errors > LOSSLESS**2)
        if not len(places[0]):
            break
        tried = span[places] / np.float32(num_steps)
        tried_errors = _measure_steps(groups[places], low[places], tried)
        better = tried_errors < errors[places]
        places = tuple(axis[better] for axis in places)
        best[places], errors[places] = tried[better], tried_errors[better]
    return best


def _measure_steps(
    groups: NDArray[np.float32], low: NDArray[np.float32], steps: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return each group's squared error, relative to its squares, with steps of this size."""
    steps = _as_scale(steps).astype(np.float32)
    errors = groups - (low[..., None] + steps[..., None] * _round(groups, low, steps))
    squares = np.square(groups).sum(axis=-1)
    relative: NDArray[np.float32] = np.square(errors).sum(axis=-1) / np.where(squares, squares, 1)
    return relative


def _measure_loss(groups: NDArray[np.float32], restored: NDArray[np.float32]) -> float:
    total = float(np.square(groups, dtype=np.float64).sum())
    lost = float(np.square(groups - restored, dtype=np.float64).sum())
    return (lost / total) ** 0.5 if total else 0.0

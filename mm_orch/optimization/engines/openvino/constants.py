"""Makes constants of a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

if TYPE_CHECKING:
    from numpy.typing import NDArray


def integers(*values: int) -> Any:
    """Return a constant of 64-bit integers, [number of values]."""
    return ops.constant(np.array(values, dtype=np.int64))


def own(values: NDArray[Any] | ov.Tensor) -> Any:
    """Return a constant that owns a copy of the numbers."""
    return ov.op.Constant(values, shared_memory=False)


def pack_4_bits(values: NDArray[Any]) -> Any:
    """Return a constant of 4-bit numbers, the first of two in the lower half of a byte."""
    padded = np.append(values.ravel(), np.zeros(values.size % 2, np.uint8))
    packed = padded[::2] | (padded[1::2] << 4)
    return own(ov.Tensor(packed.astype(np.uint8), ov.Shape(list(values.shape)), ov.Type.u4))


def round_to_bf16(values: NDArray[np.float32]) -> Any:
    """Return a constant of bf16 numbers: the upper halves, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    halves = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return own(ov.Tensor(halves, ov.Shape(list(values.shape)), ov.Type.bf16))

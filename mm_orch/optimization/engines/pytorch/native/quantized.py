"""Linear layers whose weights have 4 or 8 bits; on processors that multiply bf16."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import nn

from mm_orch.optimization.engines.pytorch.native.linear import KernelLinear

# Weights are quantised so many outputs at a time, so that never many of them stand in fp32.
_ROWS_AT_ONCE = 4096
_LANES = 16


@dataclass(frozen=True, slots=True)
class Quantization:
    """How a model's weights are to be stored.

    Attributes:
        num_bits: of the layers' weights, 4 or 8.
        num_head_bits: of the output layer's.
        max_loss: a layer stays in bf16 where quantising would change its weights by more, as root
            of the mean square, relative to the weights'.
        max_rows: for more rows than this, each layer has its weights in bf16 as well; None for no
            such second copy.
    """

    num_bits: int
    num_head_bits: int = 8
    max_loss: float = float("inf")
    max_rows: int | None = None


def can_quantize(library: ctypes.CDLL, num_inputs: int) -> bool:
    """Whether the C++ product takes quantised weights with so many inputs here."""
    count_bytes = library.muai_quantized_bytes
    count_bytes.argtypes = [ctypes.c_int64] * 3
    count_bytes.restype = ctypes.c_int64
    return bool(count_bytes(num_inputs, _LANES, 1))


class QuantizedLinear(KernelLinear):
    """A linear layer over quantised weights, computed in bf16.

    Args:
        library: the compiled kernels, for which :func:`can_quantize` said yes.
        weight: [num_outputs, num_inputs], any floating dtype.
        bias: [num_outputs] or None.
        num_bits: 4 or 8.

    Attributes:
        loss: by how much the weights were changed, as ``Quantization.max_loss``.
    """

    def __init__(
        self, library: ctypes.CDLL, weight: torch.Tensor, bias: torch.Tensor | None, num_bits: int
    ) -> None:
        num_planes = num_bits // 4
        packed, loss = _quantize(library, weight, num_planes)
        multiply = library["muai_quantized_linear"]
        super().__init__(multiply, weight.shape, packed, bias, num_planes)
        self.loss = loss


class TwofoldLinear(nn.Module):
    """A linear layer with two copies of its weights: one for few rows, one for many.

    With few rows a step waits for memory, and quantised weights are fewer bytes; with many it
    waits for arithmetic, and bf16 needs less of it.
    """

    def __init__(self, few: QuantizedLinear, many: nn.Module, max_rows: int) -> None:
        super().__init__()
        self.num_outputs = few.num_outputs
        self._few, self._many = few.forward, many.forward
        self._max_numbers = max_rows * few.num_inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x @ weight.T + bias, [..., num_outputs]; ``x`` is [..., num_inputs], bf16."""
        product: torch.Tensor = (self._few if x.numel() <= self._max_numbers else self._many)(x)
        return product


def measure_loss(library: ctypes.CDLL, weight: torch.Tensor, num_bits: int) -> float:
    """Return by how much quantising would change this weight, as ``Quantization.max_loss``."""
    return _quantize(library, weight, num_bits // 4)[1]


def _quantize(
    library: ctypes.CDLL, weight: torch.Tensor, num_planes: int
) -> tuple[torch.Tensor, float]:
    """Return the weights as quantized.cpp reads them, and what was lost."""
    quantize = library["muai_quantize"]
    quantize.argtypes = [*[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3]
    quantize.restype = ctypes.c_double
    num_outputs, num_inputs = weight.shape
    num_bytes = library.muai_quantized_bytes(num_inputs, num_outputs, num_planes)
    packed = torch.empty(num_bytes, dtype=torch.uint8)
    lost = total = 0.0
    for begin in range(0, num_outputs, _ROWS_AT_ONCE):
        rows = weight[begin : begin + _ROWS_AT_ONCE].float().contiguous()
        offset = library.muai_quantized_bytes(num_inputs, begin, num_planes)
        address = packed.data_ptr() + offset
        lost += quantize(rows.data_ptr(), address, num_inputs, len(rows), num_planes)
        total += float(rows.square().sum(dtype=torch.float64))
    return packed, (lost / total) ** 0.5 if total else 0.0

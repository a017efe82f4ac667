"""Linear layers over the C++ product; bf16 on processors that multiply it."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import nn
from torch.nn.functional import pad

# As in linear.cpp: outputs that share a register.
_LANES = 16


def can_multiply(library: ctypes.CDLL, weight: torch.Tensor) -> bool:
    """Whether the C++ product computes with this weight, [num_outputs, num_inputs], here."""
    return (
        weight.dtype == torch.bfloat16
        and weight.device.type == "cpu"
        and weight.shape[1] % 2 == 0
        and bool(library.muai_has_linear())
    )


class KernelLinear(nn.Module):
    """A linear layer that a function of the compiled kernels computes, in bf16.

    Args:
        multiply: the function: x, weights, bias, out, rows, inputs, outputs, then ``sizes``.
        shape: outputs and inputs.
        weight: as the function reads it.
        bias: [num_outputs], or None.
        sizes: what else the function wants to know.
    """

    def __init__(
        self,
        multiply: Any,
        shape: torch.Size,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        *sizes: int,
    ) -> None:
        super().__init__()
        multiply.argtypes = [*[ctypes.c_void_p] * 4, *[ctypes.c_int64] * (3 + len(sizes))]
        multiply.restype = None
        self._multiply = multiply
        self.num_outputs, self.num_inputs = shape
        self.weight = weight
        self.bias = None if bias is None else bias.to(torch.bfloat16).contiguous()
        self._sizes = (self.num_inputs, self.num_outputs, *sizes)
        # Reading them through the module's attributes would cost as much as the call.
        self._weight_address = self.weight.data_ptr()
        self._bias_address = None if self.bias is None else self.bias.data_ptr()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x @ weight.T + bias, [..., num_outputs]; ``x`` is [..., num_inputs], bf16."""
        x = x.contiguous()
        out = x.new_empty((*x.shape[:-1], self.num_outputs))
        self._multiply(
            x.data_ptr(),
            self._weight_address,
            self._bias_address,
            out.data_ptr(),
            x.numel() // self.num_inputs,
            *self._sizes,
        )
        return out


class NativeLinear(KernelLinear):
    """A linear layer whose weight lies as linear.cpp reads it.

    Args:
        library: the compiled kernels.
        weight: [num_outputs, num_inputs], bf16, an even number of inputs.
        bias: [num_outputs] or None.
    """

    def __init__(
        self, library: ctypes.CDLL, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> None:
        super().__init__(library["muai_linear"], weight.shape, _pack(weight), bias)


def _pack(weight: torch.Tensor) -> torch.Tensor:
    """Return [num_outputs / 16, num_inputs / 2, 16, 2], filled up with zeros to whole sixteens."""
    num_outputs, num_inputs = weight.shape
    filled = pad(weight, (0, 0, 0, -num_outputs % _LANES))
    return filled.view(-1, _LANES, num_inputs // 2, 2).permute(0, 2, 1, 3).contiguous()

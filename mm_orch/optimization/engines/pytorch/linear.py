"""Matrix products with a model's weights, in the layout that the device multiplies fastest."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import linear

# Only a hint: measured, weights packed for one row and for 32 are equally fast at either.
_PACKED_FOR_ROWS = 32
_PACKED_DTYPES = {torch.bfloat16, torch.float32}


class PackedLinear(nn.Module):
    """A linear layer whose weight oneDNN has put in its own order, once; on the CPU.

    Measured on two cores with the built-in model's shapes, all products of a step: 1.4 times as
    fast as ``torch.nn.functional.linear`` in bf16 at one row and at 32, 1.8 times in fp32 at one
    row. The operators are private to torch, so its version is pinned,
    and :func:`pack_linear` keeps the plain layer where they are missing.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        reorder = torch.ops.mkldnn._reorder_linear_weight  # noqa: SLF001 - no public one
        self.num_outputs = len(weight)
        self.weight = reorder(weight, _PACKED_FOR_ROWS)
        self.bias = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x @ weight.T + bias; the last dimension of ``x`` is the weight's inputs."""
        multiply = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001 - no public one
        product: torch.Tensor = multiply(x, self.weight, self.bias, "none", [], "")
        return product


class PlainLinear(nn.Module):
    """The same in plain torch."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x @ weight.T + bias."""
        return linear(x, self.weight, self.bias)


def make_linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Module:
    """Return the fastest layer that torch has for this weight, [num_outputs, num_inputs]."""
    if can_pack(weight):
        return PackedLinear(weight, bias)
    return PlainLinear(weight, bias)


def fuse(layers: list[nn.Linear]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return weight and bias of one layer that gives the outputs of all of these side by side."""
    weight = torch.cat([layer.weight.detach() for layer in layers])
    # torch's annotations hide that a layer may have none.
    biases: list[torch.Tensor | None] = [layer.bias for layer in layers]
    known = [bias.detach() for bias in biases if bias is not None]
    bias = torch.cat(known) if known else None
    return weight, bias


def can_pack(weight: torch.Tensor) -> bool:
    """Whether oneDNN's own layout is to be had for this weight."""
    return (
        weight.device.type == "cpu"
        and weight.dtype in _PACKED_DTYPES
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )

"""The operations of a decoder step besides matrix products, and which implementation runs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from mm_orch.optimization.engines.pytorch.packed import PackedStep


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSpec:
    """Shape of one layer's attention.

    Attributes:
        scale: factor of the scores, or None for 1/sqrt(head_dim).
        window: each token attends to so many last tokens, itself included; None is all.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float | None = None
    window: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """What turns projected queries and keys into those that attention takes.

    Attributes:
        cos: [num_rows, head_dim] for the rows' positions.
        sin: the same.
        q_norm: [head_dim], RMS norm of each query head before the rotation (Qwen3), or None.
        k_norm: the same for keys.
        eps: of these norms.
    """

    cos: torch.Tensor
    sin: torch.Tensor
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    eps: float


class Kernels(Protocol):
    """Operations on the rows of a packed step. Keys and values are one layer's of KVMemory.

    Attributes:
        compiles_shapes: each number of rows costs memory for good, so steps had better have few.
    """

    compiles_shapes: bool

    def make_linear(
        self, weight: torch.Tensor, bias: torch.Tensor | None, *, is_head: bool = False
    ) -> torch.nn.Module:
        """Return the fastest linear layer for this weight, [num_outputs, num_inputs].

        Args:
            weight: in the number format of the model's file, or in the one it is computed in.
            bias: [num_outputs] or None.
            is_head: it makes logits, which take less well to coarse weights.
        """

    def add_rms_norm(
        self, x: torch.Tensor | None, residual: torch.Tensor, weight: torch.Tensor, eps: float
    ) -> torch.Tensor:
        """Add ``x`` to ``residual`` in place, and return its RMS norm times ``weight``.

        Args:
            x: [num_rows, hidden_size], or None for nothing to add.
            residual: the same shape.
            weight: [hidden_size].
            eps: added to the mean square.
        """

    def silu_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """Return silu(gate) * up, [num_rows, size], of [num_rows, 2 * size]."""

    def rope_store(
        self,
        qkv: torch.Tensor,
        rotation: Rotation,
        step: PackedStep,
        keys: torch.Tensor,
        values: torch.Tensor,
        spec: AttentionSpec,
    ) -> torch.Tensor:
        """Rotate queries and keys, put keys and values into the step's slots.

        Args:
            qkv: [num_rows, (num_heads + 2 * num_kv_heads) * head_dim]; may be overwritten.
            rotation: of the step's rows.
            step: names the slots.
            keys: written at the step's slots.
            values: the same.
            spec: the layer's shape.

        Returns:
            The queries, [num_rows, num_heads, head_dim]; may be a view of ``qkv``.
        """

    def attend(
        self,
        queries: torch.Tensor,
        step: PackedStep,
        keys: torch.Tensor,
        values: torch.Tensor,
        spec: AttentionSpec,
    ) -> torch.Tensor:
        """Attend from each row to the keys of its own sequence up to itself.

        Args:
            queries: [num_rows, num_heads, head_dim]; only its last dimension need be dense.
            step: names the segments.
            keys: read at the segments' blocks; those of the step are in them.
            values: the same.
            spec: the layer's shape.

        Returns:
            [num_rows, num_heads, head_dim], dense; rows without a token are zero.
        """

"""A decoder step's operations in plain torch: for CUDA, and where no C++ compiler is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import scaled_dot_product_attention, silu

from mm_orch.optimization.engines.pytorch.linear import make_linear

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.optimization.engines.pytorch.kernels import AttentionSpec, Rotation
    from mm_orch.optimization.engines.pytorch.packed import PackedStep, PaddedTable, Segment


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> torch.Tensor:
    """See kernels.Kernels."""
    residual += x
    return rms_norm(residual, weight, eps)


def silu_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """See kernels.Kernels."""
    gate, up = gate_up.chunk(2, dim=-1)
    return silu(gate) * up


def rotate_heads(
    query: torch.Tensor, key: torch.Tensor, rotation: Rotation
) -> tuple[torch.Tensor, torch.Tensor]:
    """Norm query and key heads where the model does, and rotate them.

    Args:
        query: [num_rows, num_heads, head_dim].
        key: [num_rows, num_kv_heads, head_dim].
        rotation: of these rows.
    """
    if rotation.q_norm is not None and rotation.k_norm is not None:
        query = rms_norm(query, rotation.q_norm, rotation.eps)
        key = rms_norm(key, rotation.k_norm, rotation.eps)
    cos, sin = rotation.cos[:, None], rotation.sin[:, None]
    return _rotate(query, cos, sin), _rotate(key, cos, sin)


@dataclass(frozen=True, slots=True)
class RowFunctions:
    """What is computed row by row, of which a compiler can make one loop each."""

    add_rms_norm: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor] = (
        add_rms_norm
    )
    silu_mul: Callable[[torch.Tensor], torch.Tensor] = silu_mul
    rotate_heads: Callable[
        [torch.Tensor, torch.Tensor, Rotation], tuple[torch.Tensor, torch.Tensor]
    ] = rotate_heads


class TorchKernels:
    """Implements kernels.Kernels.

    Args:
        dtype: of what it computes with.
        is_padding: attend from all decoding sequences in one call, to as many keys as the longest
            has: for GPUs, where calls cost more than keys.

    Attributes:
        rows: may be set to compiled ones.
    """

    compiles_shapes = True

    def __init__(self, dtype: torch.dtype, *, is_padding: bool = False) -> None:
        self._dtype = dtype
        self._is_padding = is_padding
        self.rows = RowFunctions()

    def make_linear(
        self, weight: torch.Tensor, bias: torch.Tensor | None, *, is_head: bool = False
    ) -> torch.nn.Module:
        """See kernels.Kernels."""
        del is_head
        return make_linear(weight.to(self._dtype), None if bias is None else bias.to(self._dtype))

    def add_rms_norm(
        self, x: torch.Tensor | None, residual: torch.Tensor, weight: torch.Tensor, eps: float
    ) -> torch.Tensor:
        """See kernels.Kernels."""
        if x is None:
            # Once a step.
            return rms_norm(residual, weight, eps)
        return self.rows.add_rms_norm(x, residual, weight, eps)

    def silu_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """See kernels.Kernels."""
        return self.rows.silu_mul(gate_up)

    def rope_store(
        self,
        qkv: torch.Tensor,
        rotation: Rotation,
        step: PackedStep,
        keys: torch.Tensor,
        values: torch.Tensor,
        spec: AttentionSpec,
    ) -> torch.Tensor:
        """See kernels.Kernels."""
        heads = qkv.view(qkv.shape[0], -1, spec.head_dim)
        query, key, value = torch.split(
            heads, [spec.num_heads, spec.num_kv_heads, spec.num_kv_heads], dim=1
        )
        query, key = self.rows.rotate_heads(query, key, rotation)
        num_tokens = step.num_tokens
        keys.index_copy_(0, step.token_slots, key[:num_tokens])
        values.index_copy_(0, step.token_slots, value[:num_tokens])
        return query

    def attend(
        self,
        queries: torch.Tensor,
        step: PackedStep,
        keys: torch.Tensor,
        values: torch.Tensor,
        spec: AttentionSpec,
    ) -> torch.Tensor:
        """See kernels.Kernels."""
        out = queries.new_zeros(queries.shape)
        table = step.padded_decoding if self._is_padding else None
        for segment in step.segments if table is None else step.prompts:
            attend_segment(queries, segment, keys, values, spec, out)
        if table is not None:
            attend_padded(queries, table, keys, values, spec, out)
        return out


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Root mean square norm over the last dimension, as the Llama family computes it."""
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype)


def attend_segment(
    queries: torch.Tensor,
    segment: Segment,
    keys: torch.Tensor,
    values: torch.Tensor,
    spec: AttentionSpec,
    out: torch.Tensor,
) -> None:
    """Write one segment's rows of ``out``; the tensors are those of kernels.Kernels.attend."""
    rows = slice(segment.begin, segment.begin + segment.num_new_tokens)
    num_queries, num_keys = segment.num_new_tokens, segment.num_keys
    mask = None
    is_windowed = spec.window is not None and num_keys > spec.window
    if is_windowed or 1 < num_queries < num_keys:
        positions = torch.arange(num_keys, device=queries.device)
        distance = positions[num_keys - num_queries :, None] - positions[None, :]
        mask = distance >= 0
        if spec.window is not None:
            mask &= distance < spec.window
    attended = scaled_dot_product_attention(
        queries[None, rows].transpose(1, 2),
        keys[segment.key_slots][None].transpose(1, 2),
        values[segment.key_slots][None].transpose(1, 2),
        attn_mask=mask,
        is_causal=mask is None and num_queries > 1,
        scale=spec.scale,
        enable_gqa=spec.num_heads != spec.num_kv_heads,
    )
    out[rows] = attended[0].transpose(0, 1)


def attend_padded(
    queries: torch.Tensor,
    table: PaddedTable,
    keys: torch.Tensor,
    values: torch.Tensor,
    spec: AttentionSpec,
    out: torch.Tensor,
) -> None:
    """Write the rows of all segments of one token; nothing depends on values on the host."""
    places = torch.arange(table.slots.shape[1], device=queries.device)
    mask = places < table.num_keys[:, None]
    if spec.window is not None:
        mask &= places >= table.num_keys[:, None] - spec.window
    attended = scaled_dot_product_attention(
        queries[table.rows][:, :, None],
        keys[table.slots].transpose(1, 2),
        values[table.slots].transpose(1, 2),
        attn_mask=mask[:, None, None],
        scale=spec.scale,
        enable_gqa=spec.num_heads != spec.num_kv_heads,
    )
    out[table.rows] = attended[:, :, 0]


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    # Rotary position embedding (arXiv:2104.09864), on halves as the Llama family pairs them.
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin

"""Attention over sequences of different lengths packed in one row, each with its own KV memory.

All tokens of a step stand in one row, so that every matrix product runs once for the whole batch:

    tokens     | a a a a | b | c c |      one row: [1, num_tokens]
    queries    [0 ..... 4) [4) [5..7)     a prefills, b decodes, c takes a chunk
    attends to  KV of a    of b  of c     each from its own SequenceKV, past tokens included

The row may be longer than its segments together: rows that only round the shape up attend to
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn.functional import scaled_dot_product_attention

from mm_orch.core.errors import EngineStartError

if TYPE_CHECKING:
    from collections.abc import Sequence

_MIN_CAPACITY_TOKENS = 128


class SequenceKV:
    """Keys and values of one sequence for all layers, in memory that doubles as it grows."""

    def __init__(self, num_layers: int) -> None:
        self.num_tokens = 0
        self._layers: list[torch.Tensor | None] = [None] * num_layers

    @property
    def num_bytes(self) -> int:
        """Bytes allocated."""
        return sum(layer.nbytes for layer in self._layers if layer is not None)

    def append(
        self, layer_index: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store new keys and values of one layer and return all of the sequence's so far.

        Args:
            layer_index: which layer.
            key: [num_kv_heads, num_new_tokens, head_dim].
            value: the same shape.

        Returns:
            Keys and values, [num_kv_heads, num_tokens + num_new_tokens, head_dim] each. The count
            ``num_tokens`` moves only when the step is complete (:meth:`advance`).
        """
        end = self.num_tokens + key.shape[1]
        memory = self._ensure_capacity(layer_index, end, key)
        memory[0, :, self.num_tokens : end] = key
        memory[1, :, self.num_tokens : end] = value
        return memory[0, :, :end], memory[1, :, :end]

    def advance(self, num_new_tokens: int) -> None:
        """Count tokens whose keys and values every layer has stored."""
        self.num_tokens += num_new_tokens

    def _ensure_capacity(
        self, layer_index: int, num_tokens: int, like: torch.Tensor
    ) -> torch.Tensor:
        memory = self._layers[layer_index]
        if memory is not None and memory.shape[2] >= num_tokens:
            return memory
        capacity = max(_MIN_CAPACITY_TOKENS, 1 << (num_tokens - 1).bit_length())
        grown = like.new_empty((2, like.shape[0], capacity, like.shape[2]))
        if memory is not None:
            grown[:, :, : self.num_tokens] = memory[:, :, : self.num_tokens]
        self._layers[layer_index] = grown
        return grown


@dataclass(frozen=True, slots=True)
class PackedSegment:
    """One sequence's share of the packed row."""

    kv: SequenceKV
    num_new_tokens: int


class PackedAttention:
    """The attention function given to transformers, and the step it works on.

    transformers calls it once a layer with the packed row; ``segments`` says how to cut it.
    """

    def __init__(self) -> None:
        self.segments: Sequence[PackedSegment] = ()
        self.num_layers_seen = 0

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        sliding_window: int | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        """Attend within each segment.

        Args:
            module: the attention layer; its ``layer_idx`` chooses the KV memory.
            query: [1, num_heads, num_tokens, head_dim].
            key: [1, num_kv_heads, num_tokens, head_dim].
            value: the same shape as ``key``.
            attention_mask: unused: causality follows from the segments.
            scaling: factor of the scores, or None for 1/sqrt(head_dim).
            sliding_window: each token attends to so many last tokens, itself included.
            **options: what a model passes to its attention besides.

        Returns:
            [1, num_tokens, num_heads, head_dim], and None for the weights.

        Raises:
            EngineStartError: the model uses a kind of attention that this function lacks. Found
                by the warm-up step, so never in the middle of a request.
        """
        del attention_mask
        refuse_unknown_attention(options)
        layer_index = cast("int", module.layer_idx)
        self.num_layers_seen += 1
        outputs = []
        begin = 0
        for segment in self.segments:
            cut = slice(begin, begin + segment.num_new_tokens)
            begin += segment.num_new_tokens
            keys, values = segment.kv.append(layer_index, key[0, :, cut], value[0, :, cut])
            outputs.append(
                _attend(query[:, :, cut], keys[None], values[None], scaling, sliding_window)
            )
        # Rows beyond the last segment only round the shape up; nobody reads them.
        outputs.append(query.new_zeros(query[:, :, begin:].shape))
        return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def refuse_unknown_attention(options: dict[str, Any]) -> None:
    """Raise when a model asks for score capping, sinks or biases, which are not computed here."""
    for name in ("softcap", "s_aux", "position_bias", "head_mask"):
        if options.get(name) is not None:
            raise EngineStartError(
                f"The model's attention uses {name}, which the PyTorch engine does not compute.",
                remedy="Choose another model.",
            )


def _attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    num_queries, num_keys = query.shape[2], keys.shape[2]
    mask = None
    is_whole_prompt = num_queries == num_keys
    is_windowed = sliding_window is not None and num_keys > sliding_window
    if is_windowed or (num_queries > 1 and not is_whole_prompt):
        positions = torch.arange(num_keys, device=query.device)
        distance = positions[num_keys - num_queries :, None] - positions[None, :]
        mask = distance >= 0
        if sliding_window is not None:
            mask &= distance < sliding_window
    return scaled_dot_product_attention(
        query,
        keys,
        values,
        attn_mask=mask,
        is_causal=mask is None and num_queries > 1,
        scale=scaling,
        enable_gqa=query.shape[1] != keys.shape[1],
    )

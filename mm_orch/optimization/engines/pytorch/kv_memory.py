"""The tensors that hold keys and values of all sequences, in numbered slots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mm_orch.core.errors import EngineOutOfMemoryError, EngineStartError
from mm_orch.optimization.engines.pytorch.packed import BLOCK_TOKENS

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class KVShape:
    """What a model keeps for a token in each of its layers."""

    num_layers: int
    num_kv_heads: int
    head_dim: int
    dtype: torch.dtype

    @property
    def block_bytes(self) -> int:
        """Memory of one block, keys and values of all layers."""
        per_token = 2 * self.num_layers * self.num_kv_heads * self.head_dim
        return per_token * self.dtype.itemsize * BLOCK_TOKENS


class KVMemory:
    """Keys and values by layer, [num_slots, num_kv_heads, head_dim] each.

    On the CPU the memory is asked for at once and, by the system's ways, taken page by page as
    slots are first written. Each layer has memory of its own, so that a change of size takes
    no more than a layer's on top. ``keys`` and ``values`` are other tuples after such a change.
    """

    def __init__(self, shape: KVShape, num_blocks: int, device: torch.device) -> None:
        size = (num_blocks * BLOCK_TOKENS, shape.num_kv_heads, shape.head_dim)
        self.keys, self.values = (
            tuple(
                torch.empty(size, dtype=shape.dtype, device=device) for _ in range(shape.num_layers)
            )
            for _ in range(2)
        )

    def move(self, moves: Mapping[int, int]) -> None:
        """Copy blocks to where others are; no block is both."""
        if not moves:
            return
        device = self.keys[0].device
        sources = torch.tensor(list(moves), device=device)
        targets = torch.tensor(list(moves.values()), device=device)
        for layer in (*self.keys, *self.values):
            blocks = layer.view(-1, BLOCK_TOKENS, *layer.shape[1:])
            blocks.index_copy_(0, targets, blocks.index_select(0, sources))

    def resize(self, num_blocks: int, *, num_kept: int) -> None:
        """Give each layer this many blocks, of which the first ``num_kept`` stay as they are.

        Raises:
            EngineOutOfMemoryError: the device does not have the memory; layers may be of
                different sizes then, none smaller than the least of before and after.
        """
        num_slots = num_blocks * BLOCK_TOKENS
        num_copied = min(num_kept, num_blocks) * BLOCK_TOKENS
        try:
            for name in ("keys", "values"):
                for index in range(len(self.keys)):
                    layers = list(getattr(self, name))
                    old = layers[index]
                    layers[index] = old.new_empty((num_slots, *old.shape[1:]))
                    layers[index][:num_copied] = old[:num_copied]
                    del old
                    setattr(self, name, tuple(layers))
        except RuntimeError as error:
            raise EngineOutOfMemoryError(
                f"There is no memory for {num_blocks} KV blocks: {error}"
            ) from error


def reserve_memory(
    shape: KVShape, num_blocks: int, device: torch.device, *, model: str
) -> KVMemory:
    """Return memory for so many blocks.

    Raises:
        EngineStartError: the device does not have it; names the model.
    """
    try:
        return KVMemory(shape, num_blocks, device)
    except RuntimeError as error:
        raise EngineStartError(
            f"{model}: no memory for {num_blocks * shape.block_bytes >> 20} MiB of keys and"
            f" values: {error}",
            remedy="Lower optimization.cache.max_memory_mb.",
        ) from error

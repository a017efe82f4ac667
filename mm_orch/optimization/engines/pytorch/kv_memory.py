"""The tensors that hold keys and values of all sequences, in numbered slots."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mm_orch.core.errors import EngineStartError
from mm_orch.optimization.engines.pytorch.packed import BLOCK_TOKENS


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
    slots are first written.
    """

    def __init__(self, shape: KVShape, num_blocks: int, device: torch.device) -> None:
        num_slots = num_blocks * BLOCK_TOKENS
        size = (shape.num_layers, num_slots, shape.num_kv_heads, shape.head_dim)
        keys = torch.empty(size, dtype=shape.dtype, device=device)
        values = torch.empty(size, dtype=shape.dtype, device=device)
        # Slicing a tensor costs microseconds, which every layer of every step would pay.
        self.keys = keys.unbind()
        self.values = values.unbind()


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

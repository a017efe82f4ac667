"""One rank: its share of a model, its keys and values, and its place among the others."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch

from mm_orch.core.errors import EngineStartError
from mm_orch.optimization.engines.contract import count_kv_blocks
from mm_orch.optimization.engines.deepspeed import shared_memory
from mm_orch.optimization.engines.deepspeed.environment import ADDRESS, set_rank_variables
from mm_orch.optimization.engines.deepspeed.sharding import load_share
from mm_orch.optimization.engines.pytorch.device import bound_kv_bytes
from mm_orch.optimization.engines.pytorch.kv_memory import reserve_memory
from mm_orch.optimization.engines.pytorch.packed import BLOCK_TOKENS, pack
from mm_orch.optimization.engines.pytorch.stepping import make_warm_up

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

    from mm_orch.optimization.engines.deepspeed.messages import RankOrder
    from mm_orch.optimization.engines.pytorch.packed import PackedStep

logger = logging.getLogger(__name__)

# Of the sum of squares: what other orders of adding change, and far less than a wrong share does.
_MAX_DEVIATION = {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.05}


class Rank:
    """Loads its share and computes steps; every rank is given the same steps in the same order.

    Args:
        order: what to load.
        store: through which the ranks meet; None with one rank.

    Raises:
        EngineStartError: the model cannot be loaded or shared out.
    """

    def __init__(self, order: RankOrder, store: Store | None) -> None:
        torch.set_num_threads(order.num_threads)
        self.device = _take_device(order)
        if store is not None:
            _join(order, store)
        with torch.inference_mode():
            share = load_share(order, self.device)
        self.block_bytes = _add_up(share.kv_shape.block_bytes, order, self.device)
        self.num_blocks = count_kv_blocks(
            msgspec.structs.replace(
                order.spec, max_kv_bytes=bound_kv_bytes(order.spec.max_kv_bytes, self.device)
            ),
            block_tokens=BLOCK_TOKENS,
            block_bytes=self.block_bytes,
        )
        self._memory = reserve_memory(
            share.kv_shape, self.num_blocks, self.device, model=order.spec.model
        )
        self._decoder = share.decoder
        self.compiles_shapes = share.compiles_shapes
        self._check(order, share.expected)

    def compute(self, step: PackedStep) -> torch.Tensor:
        """Return the logits of the wanted rows, [num_wanted, vocab_size]; the same on each rank."""
        with torch.inference_mode():
            return self._decoder(step, self._memory)

    def _check(self, order: RankOrder, expected: torch.Tensor | None) -> None:
        """Compute a few tokens, and compare with the whole model where this rank had that."""
        logits = self.compute(pack(make_warm_up(order.num_warm_up_tokens), self.device))
        if expected is None:
            return
        difference = torch.linalg.vector_norm(logits.float().cpu() - expected)
        deviation = float(difference / torch.linalg.vector_norm(expected))
        logger.info("%s: logits deviate from transformers' by %.1e", order.spec.model, deviation)
        # Not "greater than": the deviation may be no number.
        if not deviation <= _MAX_DEVIATION[order.dtype]:
            raise EngineStartError(
                f"{order.spec.model} gives other logits on {order.num_ranks} ranks of DeepSpeed"
                f" than in transformers (they deviate by {deviation:.1e}).",
                remedy="Set optimization.deepspeed.tensor_parallel to 1 and"
                " replace_with_kernel_inject to false, or run the model on another engine.",
            )


def leave_group() -> None:
    """End what ranks share, so that this process may start ranks anew."""
    if not torch.distributed.is_initialized():
        return
    import deepspeed

    torch.distributed.destroy_process_group()
    # DeepSpeed keeps what it has made for the life of the process.
    deepspeed.comm.comm.cdb = None
    deepspeed.InferenceEngine.inference_mp_group = None


def _take_device(order: RankOrder) -> torch.device:
    device = torch.device(order.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def _join(order: RankOrder, store: Store) -> None:
    """Meet the other ranks and make DeepSpeed's means of communication."""
    import deepspeed

    set_rank_variables(order)
    if order.uses_shared_memory:
        shared_memory.load_operation(Path(order.spec.cache_directory))
    else:
        shared_memory.disable_operation()
    torch.distributed.init_process_group(
        "gloo" if order.device == "cpu" else "nccl",
        store=store,
        rank=order.rank,
        world_size=order.num_ranks,
    )
    deepspeed.init_distributed(verbose=False)
    # Past this, each rank has mapped all buffers.
    torch.distributed.barrier()
    if order.uses_shared_memory and order.rank == 0:
        shared_memory.remove_names(ADDRESS, order.port)


def _add_up(number: int, order: RankOrder, device: torch.device) -> int:
    """Return the sum of all ranks' numbers."""
    if order.num_ranks == 1:
        return number
    total = torch.tensor(number, device=device)
    torch.distributed.all_reduce(total)
    return int(total)

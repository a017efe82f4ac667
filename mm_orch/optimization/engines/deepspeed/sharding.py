"""Loads a model through transformers and has DeepSpeed cut it into this rank's share.

DeepSpeed's automatic tensor parallelism gives each rank whole heads and a part of each product;
transformers' own code goes on to run, with our attention over the heads that the rank has.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mm_orch.core.errors import EngineStartError
from mm_orch.optimization.engines.deepspeed.injection import find_obstacle, replace_attention
from mm_orch.optimization.engines.deepspeed.plan import check_heads
from mm_orch.optimization.engines.pytorch.formats import FORMATS
from mm_orch.optimization.engines.pytorch.generic import (
    GenericDecoder,
    PackedAttention,
    lay_out_weights,
    register_attention,
    set_attention,
)
from mm_orch.optimization.engines.pytorch.kv_memory import KVMemory
from mm_orch.optimization.engines.pytorch.loading import (
    choose_kernels,
    find_kv_shape,
    read_weights,
)
from mm_orch.optimization.engines.pytorch.native.build import load_library
from mm_orch.optimization.engines.pytorch.packed import pack
from mm_orch.optimization.engines.pytorch.stepping import make_warm_up

if TYPE_CHECKING:
    from mm_orch.optimization.engines.deepspeed.messages import RankOrder
    from mm_orch.optimization.engines.pytorch.kv_memory import KVShape

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Share:
    """What one rank has of a model.

    Attributes:
        decoder: computes logits of a step, together with the other ranks.
        kv_shape: what this rank keeps for a token.
        compiles_shapes: each number of rows costs memory for good.
        expected: logits of the warm-up step by the whole model, [1, vocab_size], float32 on the
            CPU; None where nothing was cut, and on all ranks but the first.
    """

    decoder: GenericDecoder
    kv_shape: KVShape
    compiles_shapes: bool
    expected: torch.Tensor | None


class HeadCounter:
    """Stands in for attention once, to see what a rank was given; answers with zeros."""

    def __init__(self) -> None:
        self.shape_by_layer: dict[int, tuple[int, int]] = {}

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        layer_index: int,
        *_: object,
    ) -> torch.Tensor:
        """Note the shape of the layer's keys; the arguments are those of PackedAttention."""
        num_kv_heads, head_dim = key.shape[1], key.shape[3]
        is_even = num_kv_heads and query.shape[1] % num_kv_heads == 0
        if key.shape != value.shape or not is_even:
            raise EngineStartError(
                f"The model's layers have {query.shape[1]} query heads, keys of"
                f" {list(key.shape[1::2])} and values of {list(value.shape[1::2])} on this rank,"
                " which the DeepSpeed engine does not compute.",
                remedy="Choose another model, or set optimization.deepspeed.tensor_parallel to 1.",
            )
        self.shape_by_layer[layer_index] = (num_kv_heads, head_dim)
        return torch.zeros_like(query).transpose(1, 2)

    def find_kv_heads(self, order: RankOrder, whole: KVShape) -> int:
        """Return the key-value heads of each layer on this rank.

        Raises:
            EngineStartError: layers differ, or some have no attention of this kind.
        """
        shapes = set(self.shape_by_layer.values())
        num_seen = len(self.shape_by_layer)
        if num_seen != whole.num_layers or len(shapes) > 1:
            raise EngineStartError(
                f"{order.spec.model}: {num_seen} of {whole.num_layers} layers use attention that"
                f" the DeepSpeed engine can batch, with {len(shapes)} shapes of keys.",
                remedy="Choose a model whose layers are all attention layers of one shape.",
            )
        [(num_kv_heads, head_dim)] = shapes
        if head_dim != whole.head_dim:
            raise EngineStartError(
                f"{order.spec.model}: DeepSpeed cut heads of {whole.head_dim} numbers to"
                f" {head_dim}.",
                remedy="Set optimization.deepspeed.tensor_parallel to 1.",
            )
        return num_kv_heads


def load_share(order: RankOrder, device: torch.device) -> Share:
    """Load the model, cut it, and lay this rank's share out for the device.

    Raises:
        EngineStartError: transformers cannot load it, or DeepSpeed cannot cut it.
    """
    spec, dtype = order.spec, FORMATS[order.dtype].dtype
    library = load_library(Path(spec.cache_directory)) if device.type == "cpu" else None
    attention, counter = PackedAttention(), HeadCounter()
    name = register_attention(attention)
    model = read_weights(spec, dtype, name).train(mode=False)
    whole = find_kv_shape(model.config.get_text_config(), dtype)
    check_heads(spec.model, num_kv_heads=whole.num_kv_heads, num_ranks=order.num_ranks)
    is_injecting = order.wants_kernels and _can_inject(model, order)
    kernels = choose_kernels(whole, device, library)
    expected = None
    if order.rank == 0 and (order.num_ranks > 1 or is_injecting):
        expected = _compute_whole(GenericDecoder(model, attention, kernels), whole, order)
    set_attention(name, counter.attend)
    try:
        model = _cut(model, order, dtype, is_injecting=is_injecting)
        if is_injecting:
            replace_attention(model, name)
        lay_out_weights(model, kernels, dtype)
        decoder = GenericDecoder(model, attention, kernels)
        # The largest step first: DeepSpeed's kernels set memory aside for the first that they see.
        num_tokens = order.max_rows if is_injecting else order.num_warm_up_tokens
        decoder(pack(make_warm_up(num_tokens), device), None)
    except (AssertionError, ValueError, RuntimeError, AttributeError, KeyError) as error:
        raise EngineStartError(
            f"{spec.model}: DeepSpeed cannot share {type(model).__name__} out over"
            f" {order.num_ranks} ranks: {error}",
            remedy="Set optimization.deepspeed.tensor_parallel to 1 and"
            " replace_with_kernel_inject to false, or run the model on another engine.",
        ) from error
    set_attention(name, attention.attend)
    kv_shape = replace(whole, num_kv_heads=counter.find_kv_heads(order, whole))
    return Share(decoder, kv_shape, kernels.compiles_shapes, expected)


def _can_inject(model: Any, order: RankOrder) -> bool:
    obstacle = find_obstacle(model.config, num_ranks=order.num_ranks)
    if obstacle is not None:
        logger.info(
            "%s: optimization.deepspeed.replace_with_kernel_inject is not used: %s",
            order.spec.model,
            obstacle,
        )
    return obstacle is None


def _compute_whole(decoder: GenericDecoder, shape: KVShape, order: RankOrder) -> torch.Tensor:
    """Return the warm-up step's logits, [1, vocab_size], before anything is cut."""
    device = torch.device("cpu")
    step = pack(make_warm_up(order.num_warm_up_tokens), device)
    return decoder(step, KVMemory(shape, 1, device)).float()


def _cut(model: Any, order: RankOrder, dtype: torch.dtype, *, is_injecting: bool) -> Any:
    """Hand the model to DeepSpeed; return it with the layers that this rank has."""
    import deepspeed

    engine = deepspeed.init_inference(
        model,
        tensor_parallel={"tp_size": order.num_ranks},
        dtype=dtype,
        replace_with_kernel_inject=is_injecting,
        # The longest call of its kernels, and what layers give back in this transformers.
        max_out_tokens=order.max_rows,
        return_tuple=False,
    )
    # Its wrapper only passes calls on.
    return engine.module

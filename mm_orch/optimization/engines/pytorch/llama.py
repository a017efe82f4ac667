"""The decoder of the Llama family: Llama, Mistral, Qwen2, Qwen3 and all that are built alike.

One layer, on the rows of a packed step:

    residual --norm--> qkv --rotate, store--> attend --o--> + residual --norm--> gate, up
             '---------------------------------------------'         '-- silu * --down--> + ...

Modules as transformers names them give the weights; the forward pass is this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import embedding

from mm_orch.optimization.engines.pytorch.kernels import AttentionSpec, Rotation
from mm_orch.optimization.engines.pytorch.linear import fuse

if TYPE_CHECKING:
    from mm_orch.optimization.engines.pytorch.kernels import Kernels
    from mm_orch.optimization.engines.pytorch.kv_memory import KVMemory
    from mm_orch.optimization.engines.pytorch.packed import PackedStep

MODEL_TYPES = {"llama", "mistral", "qwen2", "qwen3"}
# Rotations whose angles do not depend on how long the sequence has become.
_ROPE_TYPES = {"default", "linear", "llama3", "yarn"}


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """Weights of one layer."""

    attention: AttentionSpec
    input_norm: torch.Tensor
    qkv: torch.nn.Module
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    output: torch.nn.Module
    mlp_norm: torch.Tensor
    gate_up: torch.nn.Module
    down: torch.nn.Module


def is_llama_like(config: Any) -> bool:
    """Whether a transformers configuration describes a model that this decoder computes."""
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        config.model_type in MODEL_TYPES
        and config.hidden_act == "silu"
        and rope.get("rope_type", "default") in _ROPE_TYPES
    )


class LlamaDecoder:
    """Computes logits of a packed step.

    Args:
        model: a causal language model of transformers, or a PlainLlama; its layers are taken
            apart, so it cannot be used afterwards.
        kernels: how to compute.
        dtype: of everything but what the kernels choose themselves.
        context_length: positions that may occur.
    """

    def __init__(
        self, model: Any, kernels: Kernels, *, dtype: torch.dtype, context_length: int
    ) -> None:
        config, body = model.config, model.model
        self._kernels = kernels
        self._eps = config.rms_norm_eps
        head = model.lm_head
        self._head = kernels.make_linear(head.weight.detach(), head.bias, is_head=True)
        self._embedding = body.embed_tokens.weight.detach().to(dtype)
        self._norm = body.norm.weight.detach().to(dtype)
        positions = torch.arange(context_length, device=self._embedding.device)
        cos, sin = body.rotary_emb(self._embedding, positions[None])
        self._cos, self._sin = cos[0].contiguous(), sin[0].contiguous()
        self._layers = []
        while len(body.layers):
            self._layers.append(_take_layer(body.layers[0], config, kernels, dtype))
            # Freed as soon as it is fused, so that the weights are never held twice.
            del body.layers[0]

    def __call__(self, step: PackedStep, memory: KVMemory) -> torch.Tensor:
        """Return logits of the wanted rows, [num_wanted, vocab_size]; fills the step's slots."""
        kernels = self._kernels
        residual = embedding(step.token_ids, self._embedding)
        cos, sin = self._cos[step.positions], self._sin[step.positions]
        update = None
        for layer, keys, values in zip(self._layers, memory.keys, memory.values, strict=True):
            normal = kernels.add_rms_norm(update, residual, layer.input_norm, self._eps)
            rotation = Rotation(
                cos=cos, sin=sin, q_norm=layer.q_norm, k_norm=layer.k_norm, eps=self._eps
            )
            queries = kernels.rope_store(
                layer.qkv(normal), rotation, step, keys, values, layer.attention
            )
            attended = kernels.attend(queries, step, keys, values, layer.attention)
            update = layer.output(attended.flatten(1))
            normal = kernels.add_rms_norm(update, residual, layer.mlp_norm, self._eps)
            update = layer.down(kernels.silu_mul(layer.gate_up(normal)))
        residual = residual[step.wanted_rows]
        if update is not None:
            update = update[step.wanted_rows]
        logits: torch.Tensor = self._head(
            kernels.add_rms_norm(update, residual, self._norm, self._eps)
        )
        return logits


def _take_layer(layer: Any, config: Any, kernels: Kernels, dtype: torch.dtype) -> DecoderLayer:
    def norm_of(module: Any) -> torch.Tensor:
        weight: torch.Tensor = module.weight.detach().to(dtype)
        return weight

    attention, mlp = layer.self_attn, layer.mlp
    is_normed = hasattr(attention, "q_norm")
    return DecoderLayer(
        attention=AttentionSpec(
            num_heads=config.num_attention_heads,
            num_kv_heads=config.num_key_value_heads,
            head_dim=attention.head_dim,
            scale=attention.scaling,
            window=find_window(attention, config),
        ),
        input_norm=norm_of(layer.input_layernorm),
        qkv=kernels.make_linear(*fuse([attention.q_proj, attention.k_proj, attention.v_proj])),
        q_norm=norm_of(attention.q_norm) if is_normed else None,
        k_norm=norm_of(attention.k_norm) if is_normed else None,
        output=kernels.make_linear(*fuse([attention.o_proj])),
        mlp_norm=norm_of(layer.post_attention_layernorm),
        gate_up=kernels.make_linear(*fuse([mlp.gate_proj, mlp.up_proj])),
        down=kernels.make_linear(*fuse([mlp.down_proj])),
    )


def find_window(attention: Any, config: Any) -> int | None:
    """Return how many last tokens an attention layer sees; None for all of them."""
    # Qwen says it layer by layer, Mistral once for all of them.
    holder = attention if hasattr(attention, "sliding_window") else config
    window: int | None = getattr(holder, "sliding_window", None)
    return window

"""Loads a causal language model through transformers and chooses how it is computed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AttentionInterface, AutoModelForCausalLM

from mm_orch.core.errors import EngineStartError
from mm_orch.optimization.engines.pytorch.generic import (
    ATTENTION_NAME,
    GenericDecoder,
    PackedAttention,
)
from mm_orch.optimization.engines.pytorch.kv_memory import KVShape
from mm_orch.optimization.engines.pytorch.llama import LlamaDecoder, is_llama_like
from mm_orch.optimization.engines.pytorch.native.kernels import load_native_kernels
from mm_orch.optimization.engines.pytorch.torch_kernels import TorchKernels

if TYPE_CHECKING:
    from mm_orch.optimization.engines.contract import EngineSpec
    from mm_orch.optimization.engines.pytorch.kernels import Kernels

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to compute steps.

    Attributes:
        decoder: computes logits of a step.
        kv_shape: what it keeps for a token.
        compiles_shapes: each number of rows costs memory for good.
        attention: counts the layers that attend, on the generic path.
    """

    decoder: LlamaDecoder | GenericDecoder
    kv_shape: KVShape
    compiles_shapes: bool
    attention: PackedAttention


def load_model(spec: EngineSpec, *, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    """Load the weights (safetensors only).

    Raises:
        EngineStartError: the directory holds no model that transformers can run this way.
    """
    attention = PackedAttention()
    AttentionInterface.register(ATTENTION_NAME, attention)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            spec.directory,
            dtype=dtype,
            attn_implementation=ATTENTION_NAME,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=spec.trust_remote_code,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise EngineStartError(
            f"{spec.model}: transformers cannot load {spec.directory}: {error}",
            remedy="Check the model's files, or remove and pull it again.",
        ) from error
    model.train(mode=False)
    # transformers' annotations hide that `to` takes a device.
    model = torch.nn.Module.to(model, device)
    kv_shape = _find_kv_shape(model.config.get_text_config(), dtype)
    kernels = _choose_kernels(spec, kv_shape, device)
    with torch.inference_mode():
        decoder = _make_decoder(model, attention, kernels, spec)
    logger.info("%s: %s, %s", spec.model, type(decoder).__name__, type(kernels).__name__)
    return LoadedModel(decoder, kv_shape, kernels.compiles_shapes, attention)


def _make_decoder(
    model: Any, attention: PackedAttention, kernels: Kernels, spec: EngineSpec
) -> LlamaDecoder | GenericDecoder:
    if is_llama_like(model.config):
        return LlamaDecoder(model, kernels, spec.context_length)
    return GenericDecoder(model, attention, kernels)


def _choose_kernels(spec: EngineSpec, shape: KVShape, device: torch.device) -> Kernels:
    native = load_native_kernels(
        Path(spec.cache_directory), dtype=shape.dtype, device=device, head_dim=shape.head_dim
    )
    return native or TorchKernels()


def _find_kv_shape(config: Any, dtype: torch.dtype) -> KVShape:
    num_heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // num_heads
    return KVShape(
        num_layers=config.num_hidden_layers,
        num_kv_heads=getattr(config, "num_key_value_heads", None) or num_heads,
        head_dim=head_dim,
        dtype=dtype,
    )

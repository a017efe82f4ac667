"""Loads a causal language model through transformers, with packed attention in its layers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from mm_orch.core.errors import EngineStartError
from mm_orch.optimization.engines.pytorch.attention import PackedAttention

if TYPE_CHECKING:
    import torch

    from mm_orch.optimization.engines.contract import EngineSpec

logger = logging.getLogger(__name__)

_ATTENTION_NAME = "muai_packed"


def load_model(
    spec: EngineSpec, *, device: torch.device, dtype: torch.dtype
) -> tuple[Any, PackedAttention]:
    """Load the weights (safetensors only) and return the model with its attention function.

    Raises:
        EngineStartError: the directory holds no model that transformers can run this way.
    """
    import torch
    from transformers import AttentionInterface, AutoModelForCausalLM

    attention = PackedAttention()
    AttentionInterface.register(_ATTENTION_NAME, attention)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            spec.directory,
            dtype=dtype,
            attn_implementation=_ATTENTION_NAME,
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
    return torch.nn.Module.to(model, device), attention

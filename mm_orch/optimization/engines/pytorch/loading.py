"""Loads a causal language model, a plain one by itself, and chooses how it is computed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from mm_orch.optimization.engines.pytorch.device import has_fast_bf16
from mm_orch.optimization.engines.pytorch.faults import UNREADABLE, translated_loading
from mm_orch.optimization.engines.pytorch.formats import FORMATS, FormatChooser, check_quantization
from mm_orch.optimization.engines.pytorch.generic import (
    GenericDecoder,
    PackedAttention,
    lay_out_weights,
    register_attention,
)
from mm_orch.optimization.engines.pytorch.graphs import GpuCapture, GraphedDecoder
from mm_orch.optimization.engines.pytorch.kv_memory import KVShape
from mm_orch.optimization.engines.pytorch.llama import LlamaDecoder, is_llama_like
from mm_orch.optimization.engines.pytorch.native.build import load_library
from mm_orch.optimization.engines.pytorch.native.kernels import NativeKernels, has_native_kernels
from mm_orch.optimization.engines.pytorch.plain_llama import read_plain_llama
from mm_orch.optimization.engines.pytorch.torch_kernels import TorchKernels

if TYPE_CHECKING:
    import ctypes

    from mm_orch.optimization.engines.contract import EngineSpec
    from mm_orch.optimization.engines.pytorch.compiled import Compiled
    from mm_orch.optimization.engines.pytorch.kernels import Kernels
    from mm_orch.optimization.engines.pytorch.native.quantized import Quantization

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to compute steps.

    Attributes:
        decoder: computes logits of a step.
        format_name: number format of its weights.
        kv_shape: what it keeps for a token.
        compiles_shapes: each number of rows costs memory for good.
        attention: knows the layers that attend, on the generic path.
        compiled: what is compiled with the first steps, or None.
    """

    decoder: LlamaDecoder | GenericDecoder | GraphedDecoder
    format_name: str
    kv_shape: KVShape
    compiles_shapes: bool
    attention: PackedAttention
    compiled: Compiled | None


def load_model(spec: EngineSpec, device: torch.device) -> LoadedModel:
    """Load the weights (safetensors only) and lay them out for this device.

    Raises:
        EngineStartError: the directory holds no plain model and none that transformers can run this
            way, or the number format asked for cannot be computed here.
    """
    attention = PackedAttention()
    directory = Path(spec.cache_directory)
    library = load_library(directory) if device.type == "cpu" else None
    if spec.dtype == "auto" and device.type == "cpu":
        # Nothing is rounded before it is known to what.
        model = _read(spec, "auto", attention)
        chooser = FormatChooser(
            library if _is_native(model, torch.bfloat16) else None,
            directory,
            has_fast_bf16=has_fast_bf16(device),
        )
        weight_format = chooser.choose(model)
        if weight_format.quantization is None and model.dtype != weight_format.dtype:
            # Some of a model's parts may have to stay as they are: its own code knows which.
            model = _read(spec, weight_format.dtype, attention)
    else:
        gpu_name = "bf16" if has_fast_bf16(device) else "fp16"
        weight_format = FORMATS[gpu_name if spec.dtype == "auto" else spec.dtype]
        is_quantized = weight_format.quantization is not None
        model = _read(spec, "auto" if is_quantized else weight_format.dtype, attention)
        if is_quantized:
            is_native = _is_native(model, weight_format.dtype)
            check_quantization(spec.model, weight_format, model, library if is_native else None)
    model.train(mode=False)
    # transformers' annotations hide that `to` takes a device.
    model = torch.nn.Module.to(model, device)
    kv_shape = find_kv_shape(model.config.get_text_config(), weight_format.dtype)
    kernels = choose_kernels(kv_shape, device, library, weight_format.quantization)
    with torch.inference_mode():
        decoder: LlamaDecoder | GenericDecoder | GraphedDecoder = _make_decoder(
            model, attention, kernels, weight_format.dtype, spec
        )
    logger.info(
        "%s: %s, %s, %s",
        spec.model,
        type(decoder).__name__,
        type(kernels).__name__,
        weight_format.name,
    )
    compiled = _compile(model, kernels, attention, spec) if spec.settings.get("compile") else None
    if device.type == "cuda" and isinstance(decoder, LlamaDecoder):
        decoder = GraphedDecoder(decoder, GpuCapture(device))
    return LoadedModel(
        decoder, weight_format.name, kv_shape, kernels.compiles_shapes, attention, compiled
    )


def choose_kernels(
    kv_shape: KVShape,
    device: torch.device,
    library: ctypes.CDLL | None,
    quantization: Quantization | None = None,
) -> Kernels:
    """Return the compiled kernels where there are some for this model, else torch's."""
    if library is not None and has_native_kernels(kv_shape.dtype, kv_shape.head_dim):
        return NativeKernels(library, kv_shape.dtype, kv_shape.head_dim, quantization)
    return TorchKernels(kv_shape.dtype, is_padding=device.type == "cuda")


def find_kv_shape(config: Any, dtype: torch.dtype) -> KVShape:
    """Return what a model with this configuration keeps for a token."""
    num_heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // num_heads
    return KVShape(
        num_layers=config.num_hidden_layers,
        num_kv_heads=getattr(config, "num_key_value_heads", None) or num_heads,
        head_dim=head_dim,
        dtype=dtype,
    )


def _is_native(model: Any, dtype: torch.dtype) -> bool:
    return has_native_kernels(dtype, find_kv_shape(model.config.get_text_config(), dtype).head_dim)


def _read(
    spec: EngineSpec, dtype: torch.dtype | Literal["auto"], attention: PackedAttention
) -> Any:
    """Return the model with the weights of its files, on the CPU; see read_weights."""
    try:
        plain = read_plain_llama(spec.directory, dtype)
    except UNREADABLE as error:
        # transformers may know more of such files, and else says what is wrong with them.
        logger.debug("%s is not read as it is: %s", spec.directory, error)
        plain = None
    return plain if plain is not None else read_weights(spec, dtype, register_attention(attention))


def read_weights(spec: EngineSpec, dtype: torch.dtype | Literal["auto"], attention: str) -> Any:
    """Return the model as transformers loads it (safetensors only), on the CPU.

    Args:
        spec: names the directory.
        dtype: of the weights; auto is that of config.json, or the file's where it says nothing.
        attention: name of the attention function that its layers call.

    Raises:
        EngineStartError: transformers cannot load it.
    """
    from transformers import AutoModelForCausalLM

    with translated_loading(spec):
        return AutoModelForCausalLM.from_pretrained(
            spec.directory,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=spec.trust_remote_code,
        )


def _make_decoder(
    model: Any,
    attention: PackedAttention,
    kernels: Kernels,
    dtype: torch.dtype,
    spec: EngineSpec,
) -> LlamaDecoder | GenericDecoder:
    if is_llama_like(model.config):
        return LlamaDecoder(model, kernels, dtype=dtype, context_length=spec.context_length)
    lay_out_weights(model, kernels, dtype)
    return GenericDecoder(model, attention, kernels)


def _compile(
    model: Any, kernels: Kernels, attention: PackedAttention, spec: EngineSpec
) -> Compiled | None:
    """Replace what is worth compiling by what compiles itself when it is first called."""
    # Importing the compiler takes seconds.
    from mm_orch.optimization.engines.pytorch.compiled import CompiledBody, CompiledRows

    if not is_llama_like(model.config):
        return CompiledBody(model, attention)
    if isinstance(kernels, TorchKernels):
        return CompiledRows(kernels)
    logger.info(
        "%s: optimization.pytorch.compile has no effect: the engine's own C++ kernels leave nothing"
        " to compile",
        spec.model,
    )
    return None

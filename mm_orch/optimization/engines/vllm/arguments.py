"""What a spec means to vLLM: its engine arguments, and memory for keys and values."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mm_orch.core.errors import EngineStartError
from mm_orch.optimization.engines.contract import count_kv_blocks
from mm_orch.optimization.engines.vllm.lifeline import Lifeline

if TYPE_CHECKING:
    from mm_orch.optimization.engines.contract import EngineSpec

logger = logging.getLogger(__name__)

_DTYPES = {"auto": "auto", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_NAME_BY_DTYPE = {theirs: ours for ours, theirs in _DTYPES.items()}
# vLLM's own choice is 128, and only whole blocks are reused: a shared beginning of 100 tokens would
# be computed again. Its kernels ask for multiples of 32.
_CPU_BLOCK_TOKENS = 32


def make_configuration(spec: EngineSpec) -> Any:
    """Return the VllmConfig for a spec.

    Raises:
        EngineStartError: vLLM refuses the model or an option, or the memory is too small.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform

    is_cpu = current_platform.is_cpu()
    wants_cpu = {"cpu": True, "auto": is_cpu}.get(spec.device, False)
    if wants_cpu != is_cpu:
        raise EngineStartError(
            f"system.device is {spec.device}, but this vLLM is built for"
            f" {current_platform.device_type}.",
            remedy="Set system.device to auto, or install the other build of vLLM.",
        )
    known = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    try:
        configuration = AsyncEngineArgs(**_name_arguments(spec, known, is_cpu=is_cpu))
        configuration = configuration.create_engine_config()
    except (ValueError, OSError) as error:
        raise EngineStartError(
            f"vLLM cannot run {spec.model}: {error}",
            remedy="Choose another engine for this model, or change what the message names.",
        ) from error
    configuration.cache_config.kv_cache_memory_bytes = find_kv_bytes(spec, configuration)
    return configuration


def name_dtype(configuration: Any) -> str:
    """Return our name of the number format that vLLM computes in."""
    theirs = str(configuration.model_config.dtype).removeprefix("torch.")
    return _NAME_BY_DTYPE.get(theirs, theirs)


def find_block_bytes(configuration: Any) -> int:
    """Return the memory of one block of keys and values in one of vLLM's computing processes."""
    model, parallel = configuration.model_config, configuration.parallel_config
    # Latent attention keeps one vector in place of a key and a value.
    num_vectors = 1 if model.use_mla else 2
    return int(
        num_vectors
        * model.get_num_kv_heads(parallel)
        * model.get_head_size()
        * model.get_num_layers(parallel)
        * model.dtype.itemsize
        * configuration.cache_config.block_size
    )


def find_kv_bytes(spec: EngineSpec, configuration: Any) -> int:
    """Return the memory for keys and values of each of vLLM's computing processes.

    Raises:
        EngineStartError: it does not hold one sequence of full length.
    """
    import torch

    from mm_orch.optimization.engines.pytorch.device import bound_kv_bytes

    block_bytes = find_block_bytes(configuration)
    device = torch.device(configuration.device_config.device_type)
    num_processes: int = configuration.parallel_config.world_size
    wanted = bound_kv_bytes(spec.max_kv_bytes, device) // num_processes
    model = configuration.model_config
    if wanted and (model.is_hybrid or model.get_sliding_window()):
        # Layers that look back less far take less: vLLM knows how much.
        return wanted
    # vLLM keeps one block to itself.
    usable = max(1, wanted - block_bytes) if wanted else 0
    num_blocks = count_kv_blocks(
        msgspec.structs.replace(
            spec, max_kv_bytes=usable, context_length=configuration.model_config.max_model_len
        ),
        block_tokens=configuration.cache_config.block_size,
        block_bytes=block_bytes,
    )
    return wanted or (num_blocks + 1) * block_bytes


def _name_arguments(spec: EngineSpec, known: set[str], *, is_cpu: bool) -> dict[str, Any]:
    if spec.dtype not in _DTYPES:
        raise EngineStartError(
            f"{spec.model}: vLLM computes in {', '.join(_DTYPES)}, not in {spec.dtype}.",
            remedy=f"Set models.{spec.model}.dtype to auto, or choose another engine.",
        )
    directory = Path(spec.directory)
    context_length = min(
        spec.context_length, spec.settings.get("max_model_len") or spec.context_length
    )
    arguments = {
        "model": spec.directory,
        "dtype": _DTYPES[spec.dtype],
        "trust_remote_code": spec.trust_remote_code,
        "max_model_len": context_length,
        "max_num_seqs": spec.max_batch_size,
        "max_num_batched_tokens": max(spec.max_batch_tokens, spec.max_batch_size),
        "enable_prefix_caching": spec.is_reusing,
        "tensor_parallel_size": spec.settings.get("tensor_parallel_size", 1),
        "pipeline_parallel_size": spec.settings.get("pipeline_parallel_size", 1),
        "gpu_memory_utilization": spec.settings.get("gpu_memory_utilization", 0.9),
        # It is needed for guides alone: token ids go in and out.
        "skip_tokenizer_init": not (directory / "tokenizer.json").exists(),
        # The library that our grammars are written for.
        "structured_outputs_config": {"backend": "guidance"},
        "max_logprobs": -1,
        "disable_log_stats": True,
        "additional_config": Lifeline(),
        **_name_swap_space(spec, known, is_cpu=is_cpu),
    }
    if is_cpu:
        arguments |= {
            # Compiling takes a minute at every start, and no gain was measured.
            "enforce_eager": True,
            "block_size": _CPU_BLOCK_TOKENS,
            # A seeded sequence whose prompt is taken in parts ends vLLM's process: torch's random
            # generators for CPUs cannot be set back ("CPU Generator does not use offset").
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(
                spec.max_batch_size, spec.max_batch_tokens, context_length
            ),
        }
    return arguments


def _name_swap_space(spec: EngineSpec, known: set[str], *, is_cpu: bool) -> dict[str, Any]:
    """Return the argument for host memory behind a GPU's blocks, which changed with versions."""
    swap_gib = spec.settings.get("swap_space", 0)
    if not swap_gib:
        return {}
    if is_cpu:
        logger.info("optimization.vllm.swap_space is for GPUs: not used")
        return {}
    for name in ("swap_space", "kv_offloading_size"):
        if name in known:
            return {name: swap_gib}
    logger.warning("optimization.vllm.swap_space is %s, but this vLLM has no such option", swap_gib)
    return {}

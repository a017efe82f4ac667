"""Decides how many ranks run a model, where, and in which number format; a pure decision."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mm_orch.core.errors import EngineStartError

if TYPE_CHECKING:
    from mm_orch.optimization.engines.contract import EngineSpec

logger = logging.getLogger(__name__)

# Where fp16 is asked for, or nothing, a CPU takes fp32: it has no fast products in fp16.
_CPU_FORMATS = {"auto": "fp32", "fp16": "fp32", "fp32": "fp32", "bf16": "bf16"}
_GPU_FORMATS = {"auto": "fp16", "fp16": "fp16", "fp32": "fp32", "bf16": "bf16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPlan:
    """How a model is shared out.

    Attributes:
        num_ranks: processes that share each layer; this one is the first.
        num_threads: size of each one's compute pool.
        dtype: fp32, bf16 or fp16.
        wants_kernels: DeepSpeed's own kernels are asked for and the device has them.
    """

    num_ranks: int
    num_threads: int
    dtype: str
    wants_kernels: bool


def plan_ranks(spec: EngineSpec, *, device: str, num_devices: int) -> RankPlan:
    """Check what is asked for against what is here; say in the log what is not used.

    Args:
        spec: asks for it, by ``settings``, ``dtype`` and ``num_threads``.
        device: cpu or cuda.
        num_devices: GPUs that ranks may use; a CPU gives each rank a core.

    Raises:
        EngineStartError: this cannot be had.
    """
    settings = spec.settings
    _refuse_pipelines(settings)
    num_ranks = int(settings.get("tensor_parallel", 1))
    unit, num_units = ("GPU", num_devices) if device == "cuda" else ("core", spec.num_threads)
    if num_ranks > num_units:
        units = f"is 1 {unit}" if num_units == 1 else f"are {num_units} {unit}s"
        raise EngineStartError(
            f"optimization.deepspeed.tensor_parallel is {num_ranks}, but there {units} here:"
            f" each rank takes one {unit}.",
            remedy=f"Set optimization.deepspeed.tensor_parallel to {num_units} or less.",
        )
    wants_kernels = bool(settings.get("replace_with_kernel_inject", False))
    if wants_kernels and device == "cpu":
        logger.info(
            "%s: optimization.deepspeed.replace_with_kernel_inject is not used: DeepSpeed has no"
            " kernels of its own for CPUs",
            spec.model,
        )
    return RankPlan(
        num_ranks=num_ranks,
        num_threads=max(1, spec.num_threads // num_ranks),
        dtype=_choose_dtype(spec, device),
        wants_kernels=wants_kernels and device == "cuda",
    )


def check_heads(model: str, *, num_kv_heads: int, num_ranks: int) -> None:
    """Refuse ranks that would be left without a head.

    DeepSpeed gives each rank whole key-value heads, some one more than others, and the query
    heads that belong to them.

    Raises:
        EngineStartError: there are fewer heads than ranks.
    """
    if num_kv_heads < num_ranks:
        raise EngineStartError(
            f"{model} has {num_kv_heads} key-value heads, which DeepSpeed cannot share out over"
            f" {num_ranks} ranks.",
            remedy=f"Set optimization.deepspeed.tensor_parallel to {num_kv_heads} or less.",
        )


def _refuse_pipelines(settings: dict[str, Any]) -> None:
    num_stages = int(settings.get("pipeline_parallel", 1))
    if num_stages > 1:
        raise EngineStartError(
            f"optimization.deepspeed.pipeline_parallel is {num_stages}, but DeepSpeed's inference"
            " engine runs no pipelines: it refuses models that are cut by depth.",
            remedy="Set optimization.deepspeed.pipeline_parallel to 1 and use tensor_parallel, or"
            " use vLLM with optimization.vllm.pipeline_parallel_size.",
        )


def _choose_dtype(spec: EngineSpec, device: str) -> str:
    formats = _GPU_FORMATS if device == "cuda" else _CPU_FORMATS
    dtype = formats.get(spec.dtype)
    if dtype is None:
        raise EngineStartError(
            f"{spec.model} is to run in {spec.dtype}, which the DeepSpeed engine does not have:"
            " it has fp32, bf16 and fp16.",
            remedy=f"Change models.{spec.model}.dtype or quantization, or optimization"
            ".deepspeed.dtype, or run the model on pytorch.",
        )
    if spec.dtype not in {"auto", dtype}:
        logger.info(
            "%s: fp32 takes the place of %s, which is slow on a CPU; bf16 may be asked for",
            spec.model,
            spec.dtype,
        )
    return dtype

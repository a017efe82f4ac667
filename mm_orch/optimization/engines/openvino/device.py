"""Which device OpenVINO computes on, in which precision, and what a block of KV memory takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_orch.core.errors import EngineStartError

if TYPE_CHECKING:
    from mm_orch.optimization.engines.contract import EngineSpec
    from mm_orch.optimization.engines.openvino.model_files import OpenVinoModel

_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How a model is computed.

    Attributes:
        name: number format, as the engine's facts state it.
        properties: what OpenVINO is told.
        has_exact_cache: keys and values stand in fp32.
    """

    name: str
    properties: dict[str, Any]
    has_exact_cache: bool = False


def choose_device(spec: EngineSpec) -> str:
    """Return CPU, GPU or NPU; AUTO is the GPU where OpenVINO finds one.

    Raises:
        EngineStartError: OpenVINO does not find the device that was asked for.
    """
    import openvino as ov

    wanted = str(spec.settings.get("device", "AUTO"))
    # What the whole system is told to use goes before what OpenVINO would take.
    if wanted == "AUTO" and spec.device == "cpu":
        return "CPU"
    found = [name.partition(".")[0] for name in ov.Core().available_devices]
    if wanted == "AUTO":
        return "GPU" if "GPU" in found else "CPU"
    if wanted not in found:
        raise EngineStartError(
            f"optimization.openvino.device is {wanted}, but OpenVINO finds {', '.join(found)}.",
            remedy="Set optimization.openvino.device to AUTO, or install the device's driver.",
        )
    return wanted


def choose_fallback(device: str) -> str:
    """Return the number format for weights that cannot be stored smaller without loss."""
    if device != "CPU":
        return "fp16"
    return "bf16" if _BF16_FLAGS & _read_cpu_flags() else "fp32"


def choose_precision(model: OpenVinoModel, spec: EngineSpec, device: str) -> Precision:
    """Choose the arithmetic for the weights, or for what was asked of a model as shipped."""
    properties: dict[str, Any] = {"INFERENCE_NUM_THREADS": spec.num_threads}
    if device != "CPU":
        return Precision(name=model.weight_format, properties={})
    name = model.weight_format
    if not model.is_own:
        name = choose_fallback(device) if spec.dtype == "auto" else spec.dtype
    # Products of small weights are whole-numbered, and rounding their sums to bf16 only takes time.
    hint = "bf16" if name == "bf16" and choose_fallback(device) == "bf16" else "f32"
    properties["INFERENCE_PRECISION_HINT"] = hint
    if name == "fp32":
        # No number is rounded: neither keys and values nor what goes into products.
        properties |= {"KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    return Precision(name=name, properties=properties, has_exact_cache=name == "fp32")


def _read_cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())

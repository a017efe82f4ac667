"""Which device and number format PyTorch uses for a model."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch

from mm_orch.core.errors import EngineStartError

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Instruction sets with bf16 dot products; without one, bf16 is emulated and slower than fp32.
_CPU_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
_CUDA_BF16_MAJOR = 8


def choose_device(wanted: str) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        EngineStartError: a GPU is asked for by name and not there.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EngineStartError(
            f"system.device is {wanted}, but PyTorch sees {torch.cuda.device_count()} GPUs.",
            remedy="Set system.device to auto or cpu, or install a CUDA build of torch.",
        )
    return device


def choose_dtype(wanted: str, device: torch.device) -> str:
    """Return fp32, bf16 or fp16; ``auto`` takes the fastest that the device computes natively."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        is_ampere = torch.cuda.get_device_capability(device)[0] >= _CUDA_BF16_MAJOR
        return "bf16" if is_ampere else "fp16"
    return "bf16" if _CPU_BF16_FLAGS & _read_cpu_flags() else "fp32"


def bound_kv_bytes(wanted: int, device: torch.device) -> int:
    """Return ``wanted``, or less where the host could not hold it once it is all in use."""
    if device.type != "cpu" or not hasattr(os, "sysconf"):
        return wanted
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    if wanted > half:
        logger.warning(
            "optimization.cache.max_memory_mb is %d, but this machine has %d MiB in all:"
            " %d MiB are used for keys and values",
            wanted >> 20,
            half >> 19,
            half >> 20,
        )
    return min(wanted, half)


def _read_cpu_flags() -> set[str]:
    # Linux alone lists them; elsewhere fp32 is the safe choice.
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return set()
    for line in path.read_text().splitlines():
        if line.startswith(("flags", "Features")):
            return set(line.partition(":")[2].split())
    return set()

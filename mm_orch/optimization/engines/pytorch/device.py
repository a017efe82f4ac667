"""Which device PyTorch uses, and what it is good for."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from mm_orch.core.errors import EngineStartError
from mm_orch.core.memory import read_memory

logger = logging.getLogger(__name__)

# Instruction sets with bf16 dot products.
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


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16; else it is emulated, and slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= _CUDA_BF16_MAJOR
    return bool(_CPU_BF16_FLAGS & read_cpu_flags())


def bound_kv_bytes(wanted: int, device: torch.device) -> int:
    """Return ``wanted``, or less where it could not be held once it is all in use."""
    if device.type != "cpu":
        return wanted
    half = read_memory().total_bytes // 2
    if wanted > half:
        logger.warning(
            "optimization.cache.max_memory_mb is %d, but this machine, or its container, has %d MiB"
            " in all: %d MiB are used for keys and values",
            wanted >> 20,
            half >> 19,
            half >> 20,
        )
    return min(wanted, half)


def read_cpu_flags() -> set[str]:
    """Return the names of the processor's instruction sets, as far as the system lists them."""
    # Linux alone lists them; elsewhere fp32 is the safe choice.
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return set()
    for line in path.read_text().splitlines():
        if line.startswith(("flags", "Features")):
            return set(line.partition(":")[2].split())
    return set()

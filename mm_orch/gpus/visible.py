"""Which of the machine's GPUs a process sees: the grammar of ``CUDA_VISIBLE_DEVICES``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.core.events import GpuReading

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"


def find_visible(
    readings: Sequence[GpuReading], *, visible: str | None = None
) -> tuple[GpuReading, ...]:
    """Return the GPUs that this process may use, in the order in which CUDA numbers them.

    Parts of a divided GPU (MIG) are no GPUs of NVML's list, so they are not found.

    Args:
        readings: of all GPUs, by index.
        visible: the variable's value; by default this process's.
    """
    if visible is None:
        visible = os.environ.get(VISIBLE_GPUS)
    if visible is None:
        return tuple(readings)
    found: list[GpuReading] = []
    for name in (part.strip() for part in visible.split(",")):
        gpu = next((one for one in readings if _is_called(one, name)), None)
        # As for CUDA: a name that means none hides all after it.
        if gpu is None or gpu in found:
            break
        found.append(gpu)
    return tuple(found)


def _is_called(gpu: GpuReading, name: str) -> bool:
    if name.isdigit():
        return gpu.gpu_id == str(int(name))
    # The beginning of the name is enough.
    return bool(name) and gpu.uuid.lower().startswith(name.lower())

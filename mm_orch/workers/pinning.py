"""Keeps a worker to the cores and GPUs that are its replica's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mm_orch.workers.messages import WorkerSpec

_VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
_ALL_GPUS = Path("/proc/driver/nvidia/gpus")


def pin(spec: WorkerSpec) -> None:
    """Keep this process, and all that it starts, to its share; before any library counts them."""
    if spec.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, spec.cores)
    if spec.gpus:
        # The server may itself see some GPUs only: its first is ours to count from.
        names = _visible_gpus() or ()
        shown = [names[gpu] if names else str(gpu) for gpu in spec.gpus]
        os.environ[_VISIBLE_GPUS] = ",".join(shown)


def find_gpus() -> tuple[int, ...]:
    """Return the indices of NVIDIA's GPUs that this process sees, without waking their driver."""
    names = _visible_gpus()
    return tuple(range(len(list(_ALL_GPUS.glob("*")) if names is None else names)))


def _visible_gpus() -> tuple[str, ...] | None:
    """Return the names of the GPUs that this process may see; None for all."""
    visible = os.environ.get(_VISIBLE_GPUS)
    if visible is None:
        return None
    return tuple(name.strip() for name in visible.split(",") if name.strip())

"""Keeps a worker to the cores and GPUs that are its replica's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mm_orch.workers.messages import WorkerSpec


def pin(spec: WorkerSpec) -> None:
    """Keep this process, and all that it starts, to its share; before any library counts them."""
    if spec.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, spec.cores)
    if spec.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = _name_gpus(spec.gpus)


def _name_gpus(gpus: tuple[int, ...]) -> str:
    # The server may itself see some GPUs only: its first is ours to count from.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name.strip() for name in visible.split(",") if name.strip()]
    return ",".join(names[gpu] if names else str(gpu) for gpu in gpus)

"""Keeps a worker to the cores that are its replica's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mm_orch.workers.messages import WorkerSpec


def pin(spec: WorkerSpec) -> None:
    """Keep this process, and all that it starts, to its share; before any library counts them."""
    if spec.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, spec.cores)

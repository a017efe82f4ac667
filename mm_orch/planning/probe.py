"""Measures in about a second how fast this machine reads memory and multiplies."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil

from mm_orch.optimization.cores import count_usable_cores
from mm_orch.planning.hardware import MACHINE, Hardware

_READ_BYTES = 1 << 28
_MATRIX = 1536
_ROUNDS = 4
_STEP_OVERHEAD_S = 0.001
# What a server on a CPU takes at most of the machine's memory for keys and values.
_MEMORY_SHARE = 0.5
# Engines on CPUs may keep keys and values in fp32: those with quantised weights do.
_KV_ELEMENT_BYTES = 4


def probe_machine() -> Hardware:
    """Return this machine's figures: the best of a few short rounds, on all usable cores."""
    return Hardware(
        name="this machine",
        memory_bytes=psutil.virtual_memory().total * _MEMORY_SHARE,
        bytes_per_s=_measure_reading(),
        flops_per_s=_measure_multiplying(),
        overhead_s=_STEP_OVERHEAD_S,
        kv_element_bytes=_KV_ELEMENT_BYTES,
        origin=f"{MACHINE}: measured just now",
    )


def _measure_reading() -> float:
    """Bytes a second, summing an array that no cache holds."""
    num_cores = count_usable_cores()
    parts = np.array_split(np.ones(_READ_BYTES // 8), num_cores)
    with ThreadPoolExecutor(num_cores) as pool:
        return max(_rate_of_reading(pool, parts) for _ in range(_ROUNDS))


def _rate_of_reading(pool: ThreadPoolExecutor, parts: list[np.ndarray]) -> float:
    begin_s = time.perf_counter()
    # numpy lets other threads run while it sums.
    list(pool.map(np.sum, parts))
    return _READ_BYTES / (time.perf_counter() - begin_s)


def _measure_multiplying() -> float:
    """Floating-point operations a second, multiplying fp32 matrices."""
    matrix = np.ones((_MATRIX, _MATRIX), dtype=np.float32)
    return max(_rate_of_multiplying(matrix) for _ in range(_ROUNDS))


def _rate_of_multiplying(matrix: np.ndarray) -> float:
    begin_s = time.perf_counter()
    matrix @ matrix
    return 2 * _MATRIX**3 / (time.perf_counter() - begin_s)

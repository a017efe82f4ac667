"""What vLLM reads from the environment, and cannot be told in another way."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mm_orch.optimization.engines.contract import EngineSpec


def prepare_environment(spec: EngineSpec, folder: str) -> None:
    """Set what vLLM reads from the environment; must run before vllm is imported.

    Args:
        spec: what is to be run.
        folder: where vLLM's sockets go.
    """
    variables = {
        # Weights lie in a local directory: nothing is to be looked up.
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": _name_cores(spec),
        # Only what is pickled carries the lifeline.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_RPC_BASE_PATH": folder,
        # Where stderr_tap finds what went wrong in a child.
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
        "TORCHINDUCTOR_CACHE_DIR": str(Path(spec.cache_directory) / "vllm" / "inductor"),
        "VLLM_CACHE_ROOT": str(Path(spec.cache_directory) / "vllm"),
    }
    # It would overrule optimization.cache.max_memory_mb.
    os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)
    _, _, gpu = spec.device.partition("cuda:")
    if gpu:
        visible = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
        variables["CUDA_VISIBLE_DEVICES"] = dict(enumerate(visible)).get(int(gpu), gpu)
    os.environ.update(variables)


@contextmanager
def temporary_files_in(folder: str) -> Iterator[None]:
    """Have the processes that are started inside put their temporary files into this folder."""
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before


def _name_cores(spec: EngineSpec) -> str:
    """Return the cores of each of vLLM's computing processes, in vLLM's spelling."""
    num_processes = spec.settings.get("tensor_parallel_size", 1) * spec.settings.get(
        "pipeline_parallel_size", 1
    )
    if not hasattr(os, "sched_getaffinity"):
        return "nobind"
    cores = sorted(os.sched_getaffinity(0))[: max(spec.num_threads, num_processes)]
    groups = [cores[rank::num_processes] for rank in range(num_processes)]
    # On GPUs vLLM does not read it.
    return "|".join(",".join(str(core) for core in group) for group in groups if group)

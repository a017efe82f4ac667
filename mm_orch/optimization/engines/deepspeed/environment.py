"""Sets the variables by which alone DeepSpeed, torch.distributed and OpenMP are told things."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mm_orch.optimization.engines.deepspeed.messages import RankOrder

ADDRESS = "127.0.0.1"


def set_library_variables(*, device: str, num_threads: int, cache_directory: Path) -> None:
    """Say what the libraries ask for when they are loaded; call it before they are.

    Args:
        device: cpu or cuda.
        num_threads: of OpenMP libraries that are loaded later; torch's own is told by torch.
        cache_directory: compiled operations are kept in a folder of it.
    """
    programs, path = str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)
    if programs not in path.split(os.pathsep):
        path = os.pathsep.join([programs, path])
    os.environ.update(
        DS_ACCELERATOR=device,
        OMP_NUM_THREADS=str(num_threads),
        TORCH_EXTENSIONS_DIR=str(cache_directory / "torch-extensions"),
        # The interpreter may be run without its environment being activated; ninja lies beside it.
        PATH=path,
    )
    if sys.platform == "linux":
        # Ranks are on this machine; else gloo takes what the host's name stands for.
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"


def set_rank_variables(order: RankOrder) -> None:
    """Say which of how many ranks this process is."""
    _, _, device_index = order.device.partition(":")
    os.environ.update(
        RANK=str(order.rank),
        LOCAL_RANK=device_index or str(order.rank),
        WORLD_SIZE=str(order.num_ranks),
        # Without it DeepSpeed's all-reduce uses shared memory that it has never mapped.
        LOCAL_SIZE=str(order.num_ranks),
        MASTER_ADDR=ADDRESS,
        MASTER_PORT=str(order.port),
    )

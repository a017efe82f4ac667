"""The shared memory through which DeepSpeed adds up: compiled once, never left behind.

DeepSpeed names a buffer for each rank, maps it and never removes it. Ranks that have mapped all
of them need no names, so those are removed at once; then nothing can be left behind, however the
ranks end. A process killed before that leaves names, which the next start removes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

_DIRECTORY = Path("/dev/shm")  # noqa: S108 - where shm_open puts its names
_PREFIX = "deepspeed_allreduce_buffer"
_COMPILERS = ("c++", "g++")


def can_share_memory() -> bool:
    """Whether ranks on this machine can add up through shared memory; else they use sockets."""
    if sys.platform != "linux":
        return False
    if not any(map(shutil.which, _COMPILERS)):
        logger.info("no C++ compiler found: ranks add up through sockets, which is slower")
        return False
    import torch

    # The buffers of a process are mapped once in its life: later ranks would not find them.
    return not hasattr(torch.ops.deepspeed, "inference_all_reduce_")


def load_operation(cache_directory: Path) -> None:
    """Load DeepSpeed's operation; the first time on a machine it is compiled, for half a minute.

    Raises:
        RuntimeError: it cannot be compiled; with the compiler's message.
    """
    from deepspeed.accelerator import get_accelerator

    directory = cache_directory / "torch-extensions"
    directory.mkdir(parents=True, exist_ok=True)
    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    with filelock.FileLock(directory / "compiling"):
        # torch waits for ever for the lock of a compilation that was killed. Under ours, nobody
        # else compiles.
        (directory / builder.name / "lock").unlink(missing_ok=True)
        builder.load(verbose=False)


def disable_operation() -> None:
    """Have DeepSpeed add up through its process group alone."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def remove_names(address: str, port: int) -> None:
    """Remove the names of the buffers of one group of ranks; what is mapped stays mapped."""
    for path in _DIRECTORY.glob(f"{_PREFIX}_{os.getuid()}_{address}_{port}_*"):
        path.unlink(missing_ok=True)


def remove_leftovers() -> None:
    """Remove buffers of this user that no process has open or mapped."""
    paths = list(_DIRECTORY.glob(f"{_PREFIX}_{os.getuid()}_*"))
    if not paths:
        return
    used = set(_paths_in_use())
    for path in paths:
        if str(path) not in used:
            path.unlink(missing_ok=True)
            logger.info("removed %s, which a killed process had left behind", path)


def _paths_in_use() -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        # What cannot be read has ended, or is another user's, whose buffers have other names.
        with contextlib.suppress(OSError):
            for line in (process / "maps").read_text().splitlines():
                if _PREFIX in line:
                    yield line[line.index("/") :]
        with contextlib.suppress(OSError):
            for link in list((process / "fd").iterdir()):
                # One may have been closed meanwhile.
                with contextlib.suppress(OSError):
                    yield str(link.readlink())

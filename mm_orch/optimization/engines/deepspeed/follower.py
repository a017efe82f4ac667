"""A rank but the first: a process that loads its share and computes the steps it is sent."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

import msgspec

from mm_orch.core.parent import die_with_parent
from mm_orch.optimization.engines.deepspeed.environment import ADDRESS, set_library_variables
from mm_orch.optimization.engines.deepspeed.messages import RankOrder, read_step


def main() -> int:
    """Run one follower until its input ends; returns the exit code."""
    die_with_parent()
    # Ctrl-C in a terminal reaches the whole group; a follower ends when the first rank does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever a library prints belongs into the log.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    pipe = sys.stdin.buffer
    order = msgspec.json.decode(pipe.readline(), type=RankOrder)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format=f"%(levelname)s rank {order.rank} %(name)s: %(message)s",
    )
    set_library_variables(
        device=order.device.partition(":")[0],
        num_threads=order.num_threads,
        cache_directory=Path(order.spec.cache_directory),
    )
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it is public

    from mm_orch.optimization.engines.deepspeed.rank import Rank, leave_group

    store = TCPStore(ADDRESS, order.port, is_master=False)
    rank = Rank(order, store)
    while (step := read_step(pipe, rank.device)) is not None:
        rank.compute(step)
    leave_group()
    return 0

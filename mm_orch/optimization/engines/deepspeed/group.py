"""The first rank's side of the others: starts them, sends them steps, ends with them."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it is public

from mm_orch.optimization.engines.deepspeed.environment import ADDRESS
from mm_orch.optimization.engines.deepspeed.messages import (
    RANK_LOST_EXIT_CODE,
    encode_step,
    write_step,
)
from mm_orch.optimization.engines.deepspeed.shared_memory import remove_names

if TYPE_CHECKING:
    from mm_orch.optimization.engines.deepspeed.messages import RankOrder
    from mm_orch.optimization.engines.pytorch.packed import PackedStep

logger = logging.getLogger(__name__)

# They have nothing to save; less than the time that a worker has for its own end.
_END_GRACE_S = 2.0
_START_GRACE_S = 5.0
# A follower must find this very package, installed or not, and nothing of the current folder.
_PACKAGE_ROOT = str(Path(__file__).parents[4])
_START_CODE = (
    f"import sys; sys.path.insert(0, {_PACKAGE_ROOT!r}); "
    "from mm_orch.optimization.engines.deepspeed.follower import main; sys.exit(main())"
)


class RankGroup:
    """Ranks are lost together: when a follower ends unasked, so does this process.

    A rank waits for the others in the middle of a layer, in code that cannot be interrupted; and
    who has computed half a step cannot be brought back into line. The supervisor of the worker
    starts all of them anew.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._listener = socket.create_server((ADDRESS, 0))
        self.port: int = self._listener.getsockname()[1]
        # The store owns the descriptor from here on.
        self.store = TCPStore(
            ADDRESS,
            self.port,
            is_master=True,
            wait_for_workers=False,
            master_listen_fd=self._listener.detach(),
        )
        self._followers: list[subprocess.Popen[bytes]] = []
        self._is_complete = False
        self._is_ending = threading.Event()

    def start(self, orders: list[RankOrder]) -> None:
        """Start a follower for each order; they load while the first rank does."""
        for order in orders:
            follower = subprocess.Popen(  # noqa: S603 - this interpreter and our own code
                [sys.executable, "-P", "-c", _START_CODE], stdin=subprocess.PIPE
            )
            self._followers.append(follower)
            if follower.stdin is not None:
                follower.stdin.write(msgspec.json.encode(order) + b"\n")
                follower.stdin.flush()
            threading.Thread(
                target=self._exit_with, args=(follower, order.rank), daemon=True
            ).start()

    def complete(self) -> None:
        """All ranks have loaded: from now on the loss of one is known to be just that."""
        self._is_complete = True

    def send(self, step: PackedStep) -> None:
        """Have all followers compute the step; raises OSError when one is gone."""
        data = encode_step(step)
        for follower in self._followers:
            if follower.stdin is not None:
                write_step(follower.stdin, data)

    def end(self) -> None:
        """Close the followers' input, at which they end; kill those that do not. Safe twice."""
        self._is_ending.set()
        for follower in self._followers:
            if follower.stdin is not None:
                # One that is gone cannot be sent what is left in the buffer.
                with contextlib.suppress(OSError):
                    follower.stdin.close()
        for follower in self._followers:
            try:
                follower.wait(_END_GRACE_S)
            except subprocess.TimeoutExpired:
                follower.kill()
                follower.wait()
        self._followers.clear()
        remove_names(ADDRESS, self.port)

    def _exit_with(self, follower: subprocess.Popen[bytes], rank: int) -> None:
        exit_code = follower.wait()
        # What keeps a rank from starting mostly keeps the first from it too, which says it better.
        grace_s = 0 if self._is_complete else _START_GRACE_S
        if not self._is_ending.wait(grace_s):
            logger.critical(
                "%s: rank %d ended with exit code %d; the ranks cannot go on without it",
                self._model,
                rank,
                exit_code,
            )
            remove_names(ADDRESS, self.port)
            # The main thread may be waiting for that rank: nothing gentler ends it.
            os._exit(RANK_LOST_EXIT_CODE)

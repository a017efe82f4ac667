"""The server's side of its cluster: has it joined, and says where workers are placed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from mm_orch.core.errors import ServerStartError
from mm_orch.workers.cluster.keeper import Joined
from mm_orch.workers.launching import describe_exit, make_command
from mm_orch.workers.log_tail import LogTail
from mm_orch.workers.placement import Placement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

logger = logging.getLogger(__name__)

_JOIN_TIMEOUT_S = 120.0
_LEAVE_TIMEOUT_S = 10.0
_REJOIN_EVERY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """How workers are to be run on a cluster.

    Attributes:
        address: of the cluster; auto for this machine's, which is started where there is none.
        host: this machine's address for the other nodes; empty for the one that Ray knows.
        python: interpreter that has Ray; empty for this one.
        num_cpus: cores of each worker.
        num_gpus: GPUs of each worker.
        timeout_s: longest wait for a node that has room.
    """

    address: str
    host: str = ""
    python: str = ""
    num_cpus: int = 1
    num_gpus: int = 0
    timeout_s: float = 300.0


class Cluster:
    """A cluster that was joined; joined again when the process that keeps it has ended."""

    def __init__(self, settings: ClusterSettings) -> None:
        self._settings = settings
        self._keeper: asyncio.subprocess.Process | None = None
        self._joined: Joined | None = None

    def place(self) -> Placement:
        """Return where a worker is to be started now.

        Raises:
            ServerStartError: it was never joined.
        """
        if self._joined is None:
            raise ServerStartError(f"The cluster at {self._settings.address} is not joined yet.")
        settings = self._settings
        return Placement(
            cluster=self._joined.address,
            auth_mode=self._joined.auth_mode,
            host=settings.host or self._joined.host,
            python=settings.python,
            num_cpus=settings.num_cpus,
            num_gpus=settings.num_gpus,
            timeout_s=settings.timeout_s,
        )

    async def join(self) -> None:
        """Join the cluster, or start it.

        Raises:
            ServerStartError: it cannot be; says why.
        """
        command = make_command(self._settings.python, "cluster.keeper")
        try:
            keeper = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise ServerStartError(
                f"{command[0]}, which is to have Ray, cannot be started: {error.strerror}.",
                remedy="Correct cluster.python.",
            ) from error
        self._keeper = keeper
        log = LogTail(keeper, name="cluster keeper")
        try:
            self._joined = await self._ask(keeper, log)
        except BaseException:
            log.close()
            raise
        joined = self._joined
        how = "started" if joined.is_own else "joined"
        logger.info("Ray at %s is %s: %d nodes", joined.address, how, joined.num_nodes)

    async def keep(self) -> None:
        """Join it again whenever that is lost; never returns."""
        while True:
            if self._keeper is not None:
                how = describe_exit(await self._keeper.wait())
                logger.error("the cluster was lost (%s); workers there are too", how)
            await self._join_again()

    async def _join_again(self) -> None:
        """Try until it is joined; only the first failure is news."""
        is_told = False
        while True:
            try:
                await self.join()
            except Exception as error:  # boundary: whatever it is, the next try may succeed
                if not is_told:
                    is_told, is_expected = True, isinstance(error, ServerStartError)
                    logger.warning(
                        "the cluster cannot be joined, which is tried again every %g s: %s",
                        _REJOIN_EVERY_S,
                        error,
                        exc_info=None if is_expected else error,
                    )
                await asyncio.sleep(_REJOIN_EVERY_S)
            else:
                return

    async def leave(self) -> None:
        """End the process that keeps it, and with it a cluster that it has started."""
        keeper = self._keeper
        if keeper is None or keeper.returncode is not None:
            return
        if keeper.stdin is not None:
            keeper.stdin.close()
        try:
            async with asyncio.timeout(_LEAVE_TIMEOUT_S):
                await keeper.wait()
        except TimeoutError:
            keeper.kill()
            await keeper.wait()

    async def _ask(self, keeper: asyncio.subprocess.Process, log: LogTail) -> Joined:
        if keeper.stdin is None or keeper.stdout is None:
            raise TypeError("the keeper was started without pipes")
        keeper.stdin.write(self._settings.address.encode() + b"\n")
        # The last two: it says something that is no answer, or far too much.
        with contextlib.suppress(TimeoutError, msgspec.MsgspecError, ValueError):
            async with asyncio.timeout(_JOIN_TIMEOUT_S):
                line = await keeper.stdout.readline()
            if line:
                return msgspec.json.decode(line, type=Joined)
        if keeper.returncode is None:
            keeper.kill()
        await keeper.wait()
        raise ServerStartError(
            f"The cluster at {self._settings.address} cannot be joined.{await log.last_words()}",
            remedy="Check its address with ray status; scripts/setup-engine cluster makes an"
            " environment that has Ray, for cluster.python.",
        )


@contextlib.asynccontextmanager
async def joined(settings: ClusterSettings) -> AsyncIterator[Cluster]:
    """Have the cluster joined while this is entered.

    Raises:
        ServerStartError: it cannot be.
    """
    cluster = Cluster(settings)
    keeping = None
    try:
        await cluster.join()
        keeping = asyncio.create_task(cluster.keep(), name="keep the cluster")
        yield cluster
    finally:
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        await cluster.leave()

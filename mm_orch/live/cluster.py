"""Has the cluster joined that the configuration names, and says where workers run."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mm_orch.config import Config
    from mm_orch.workers.placement import Placement


@contextlib.asynccontextmanager
async def open_places(
    config: Config, *, is_server: bool
) -> AsyncIterator[Callable[[], Placement | None]]:
    """Yield what says where a worker that is started now is to run; None is this machine.

    Args:
        config: the whole configuration.
        is_server: who wants one answer has it made here.

    Raises:
        ServerStartError: the cluster cannot be joined.
    """
    options = config.cluster
    if options.address is None or not is_server:
        yield lambda: None
        return
    # Who runs models here does not wait for it.
    from mm_orch.workers.cluster.joining import ClusterSettings, joined

    num_gpus = options.gpus_per_worker
    if num_gpus is None:
        num_gpus = int(config.system.device.startswith("cuda"))
    settings = ClusterSettings(
        address=options.address,
        host=options.host or "",
        python=options.interpreter,
        num_cpus=options.cpus_per_worker,
        num_gpus=num_gpus,
        timeout_s=options.placement_timeout_s,
    )
    async with joined(settings) as cluster:
        yield cluster.place

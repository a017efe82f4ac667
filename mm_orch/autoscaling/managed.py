"""The configured models as the autoscaler sees them, and its place beside the other parts."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from mm_orch.autoscaling.loop import Autoscaler
from mm_orch.autoscaling.meter import Standing
from mm_orch.autoscaling.readings import Goals
from mm_orch.optimization.replicas.layout import ReplicaRange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from mm_orch.core.clock import Clock
    from mm_orch.core.observers import ObserverFanOut
    from mm_orch.live.configuration import LiveConfiguration
    from mm_orch.optimization.manager import OptimizationManager
    from mm_orch.orchestration.status import SystemStatus


class ManagedModels:
    """Implements autoscaling.loop.ScaledModels."""

    def __init__(self, manager: OptimizationManager) -> None:
        self._manager = manager

    def ranges(self) -> Mapping[str, ReplicaRange]:
        """See ScaledModels."""
        return {
            name: plan.replicas
            for name, plan in self._manager.plans.items()
            if isinstance(plan.replicas, ReplicaRange)
        }

    def look(self, model: str) -> Standing | None:
        """See ScaledModels."""
        replicas = self._manager.find_replicas(model)
        if replicas is None:
            return None
        workers = replicas.workers
        return Standing(
            serving=tuple(replicas.serving),
            num_wanted=replicas.num_wanted,
            num_places=self._manager.plans[model].batcher.max_batch_size,
            num_queued_tokens=sum(worker.queued.total for worker in workers),
            num_computed_by_worker={worker.pid: worker.queued.num_computed for worker in workers},
        )

    async def find_obstacle(self, model: str) -> str:
        """See ScaledModels."""
        return await self._manager.find_obstacle(model)

    def scale(self, model: str, count: int) -> None:
        """See ScaledModels."""
        self._manager.scale(model, count)


@contextlib.asynccontextmanager
async def scaling(
    manager: OptimizationManager,
    live: LiveConfiguration,
    observer: ObserverFanOut,
    status: SystemStatus,
    clock: Clock,
) -> AsyncIterator[None]:
    """Have replicas follow the load while this is entered, of models that say a range."""
    autoscaler = Autoscaler(
        ManagedModels(manager), read_goals=lambda: _read_goals(live), observer=observer, clock=clock
    )
    observer.add((autoscaler.observer_of_path,))
    status.tell_of_scaling(autoscaler)
    running = asyncio.create_task(autoscaler.run(), name="scale replicas")
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _read_goals(live: LiveConfiguration) -> Goals:
    options = live.config.optimization.autoscaler
    return Goals(target_wait_s=options.target_wait_s, quiet_s=options.quiet_s)

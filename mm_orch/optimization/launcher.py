"""Launches workers in their places: on the machine's GPUs as the rule says, or as configured."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mm_orch.optimization.placing.fitting import fit_spec
from mm_orch.optimization.placing.needs import list_gpu_ways
from mm_orch.optimization.placing.places import Wanted
from mm_orch.optimization.placing.rule import Way
from mm_orch.optimization.stand_in import name_stand_in
from mm_orch.workers.messages import STAND_IN
from mm_orch.workers.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    import zmq.asyncio

    from mm_orch.core.events import Observer
    from mm_orch.models.stored import StoredModel
    from mm_orch.optimization.engines.contract import Availability
    from mm_orch.optimization.ladder import EngineLadder
    from mm_orch.optimization.placing.places import GpuPlaces
    from mm_orch.optimization.plan import ModelPlan
    from mm_orch.optimization.replica_set import Replica


class WorkerLauncher:
    """Starts the workers of all models.

    Args:
        places: of this machine's GPUs.
        context: for the workers' sockets.
        lease_directory: where the workers take turns at the cores.
        observer: told of what workers do.
    """

    def __init__(
        self,
        places: GpuPlaces,
        *,
        context: zmq.asyncio.Context,
        lease_directory: str,
        observer: Observer,
    ) -> None:
        self._places = places
        self._context = context
        self._lease_directory = lease_directory
        self._observer = observer
        # What each model is reckoned to take on each engine, and of what.
        self._reckoned: dict[tuple[str, str], tuple[tuple[str, int, int], tuple[Way, ...]]] = {}

    async def probe(
        self, plan: ModelPlan, stored: StoredModel, ladder: EngineLadder, replica: Replica
    ) -> list[Availability]:
        """Say of each engine whether it can run here, and put those last that find no GPU."""
        probes = await plan.probe_engines()
        if not await self._is_placing(plan):
            return probes
        ways = await self._list_ways(plan, stored, [one.engine for one in probes])
        ladder.put_last(
            engine
            for engine, those in ways.items()
            if those and not self._places.has_room(_want(plan, replica, those, those[0]))
        )
        return probes

    async def launch(
        self,
        plan: ModelPlan,
        engine: str,
        stored: StoredModel,
        *,
        ladder: EngineLadder,
        replica: Replica,
        observer: Observer | None = None,
    ) -> Worker:
        """Start the process of a worker in its place.

        Args:
            plan: of the model, as it is now.
            engine: one of the plan's.
            stored: the model's files.
            ladder: says which engines would have been preferred.
            replica: whose worker it is.
            observer: told of what the worker does; by default that of all.

        Raises:
            EngineStartError: there is no place, or the interpreter cannot be started.
        """
        spec = plan.make_worker_spec(
            engine,
            stored,
            lease_directory=self._lease_directory,
            replica=replica.number,
            share=replica.share,
        )
        observer = observer or self._observer
        if not await self._is_placing(plan):
            return await Worker.launch(spec, context=self._context, observer=observer)
        ways = await self._list_ways(plan, stored, list(ladder.circuit_by_engine))
        on_cpu = (Way(engine=engine, num_gpus=0),)
        own = ways[engine] + (on_cpu if plan.device == "auto" or not ways[engine] else ())
        wished = next(one for one in ladder.circuit_by_engine if one in {engine, *ladder.last})
        claim = await self._places.claim(_want(plan, replica, own, (ways[wished] or own)[0]))
        try:
            spec = fit_spec(spec, claim, takes_gpus=bool(ways[engine]))
            claim.worker = await Worker.launch(spec, context=self._context, observer=observer)
        except BaseException:
            self._places.release(claim)
            raise
        return claim.worker

    async def _is_placing(self, plan: ModelPlan) -> bool:
        """Whether a worker that is started now is to have its GPUs by the rule."""
        if plan.device == "cpu" or plan.place() is not None:
            return False
        return bool(await self._places.read())

    async def _list_ways(
        self, plan: ModelPlan, stored: StoredModel, engines: Sequence[str]
    ) -> dict[str, tuple[Way, ...]]:
        """Return each engine's ways on GPUs, none for one that takes none."""
        ways = {}
        for engine in (one for one in plan.engines if one.name in engines):
            # Reading headers takes a moment, in which an engine's back-off may pass.
            basis = (stored.directory, stored.size_bytes, plan.max_kv_bytes)
            known = self._reckoned.get((plan.name, engine.name))
            if known is None or known[0] != basis:
                known = basis, await asyncio.to_thread(list_gpu_ways, plan, engine, stored)
                self._reckoned[plan.name, engine.name] = known
            ways[engine.name] = self._places.correct(plan.name, known[1])
        return ways


def _want(plan: ModelPlan, replica: Replica, ways: tuple[Way, ...], wish: Way) -> Wanted:
    is_stand_in = replica.number == STAND_IN
    return Wanted(
        name=name_stand_in(plan.name) if is_stand_in else plan.name,
        model=plan.name,
        replica=replica.number,
        ways=ways,
        wish=wish,
        device=plan.device,
    )

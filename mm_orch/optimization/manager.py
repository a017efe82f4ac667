"""Leases running workers: knows the models, chooses their engines, owns their supervisors."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import zmq.asyncio

from mm_orch.core.threads import start_abandonable
from mm_orch.optimization.ladder import EngineLadder
from mm_orch.optimization.registry import probe_engine
from mm_orch.optimization.supervisor import Fallback, ModelSupervisor

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Observer
    from mm_orch.models.stored import StoredModel
    from mm_orch.optimization.engines.contract import Availability
    from mm_orch.optimization.plan import ModelPlan
    from mm_orch.workers.worker import Worker


class OptimizationManager:
    """An async context manager: workers live inside it and are stopped when it is left."""

    def __init__(self, plans: Mapping[str, ModelPlan], *, observer: Observer, clock: Clock) -> None:
        self.plans = dict(plans)
        self._observer = observer
        self._clock = clock
        self._context = zmq.asyncio.Context()
        self._supervisors: dict[str, ModelSupervisor] = {}
        self._files: dict[str, asyncio.Future[StoredModel]] = {}
        self._tasks = asyncio.TaskGroup()
        self._supervision: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> OptimizationManager:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._supervision:
            task.cancel()
        for fetching in self._files.values():
            fetching.cancel()
        try:
            await self._tasks.__aexit__(error_type, error, traceback)
        finally:
            self._context.term()

    def find_supervisor(self, model: str) -> ModelSupervisor | None:
        """Return the supervisor of a model that has been asked for, else None."""
        return self._supervisors.get(model)

    def ensure_started(self, model: str) -> ModelSupervisor:
        """Begin to load the model unless that was begun already."""
        supervisor = self._supervisors.get(model)
        if supervisor is None:
            plan = self.plans[model]
            supervisor = ModelSupervisor(
                model,
                EngineLadder(
                    [engine.name for engine in plan.engines],
                    self._clock,
                    is_falling_back=plan.is_falling_back,
                ),
                probe=lambda: _probe(plan),
                ensure_files=lambda: self.ensure_files(model),
                make_spec=plan.make_worker_spec,
                context=self._context,
                observer=self._observer,
                clock=self._clock,
                watchdog_timeout_s=plan.watchdog_timeout_s,
            )
            self._supervisors[model] = supervisor
            self._supervision.append(
                self._tasks.create_task(supervisor.run(), name=f"supervise {model}")
            )
        return supervisor

    async def ensure_files(self, model: str) -> StoredModel:
        """Return the model's files, fetching them first where they are missing.

        Raises:
            ModelStoreError: they cannot be had; the next call tries again.
        """
        fetching = self._files.get(model)
        # Only a fetch under way is shared: files that were there may have vanished since.
        if fetching is None or fetching.done():
            fetching = start_abandonable(self.plans[model].ensure_files, name=f"fetch {model}")
            self._files[model] = fetching
        return await asyncio.shield(fetching)

    async def acquire(self, model: str) -> Worker:
        """Return a running worker, waiting while it loads.

        Raises:
            ModelUnavailableError: no engine could be started.
        """
        return await self.ensure_started(model).acquire()

    def find_fallback(self, model: str) -> Fallback | None:
        """Return why a model runs on another engine than the preferred one, where it does."""
        supervisor = self._supervisors.get(model)
        return supervisor.fallback if supervisor else None

    def count_step_fault(self, model: str, engine: str, reason: str) -> None:
        """Note a request that an engine failed though its worker lives on."""
        self._supervisors[model].count_step_fault(engine, reason)

    def record_success(self, model: str, engine: str) -> None:
        """Note a request that an engine has answered."""
        self._supervisors[model].record_success(engine)

    def release_conversation(self, conversation_id: str) -> None:
        """Have every running worker free what only this conversation needs."""
        for supervisor in self._supervisors.values():
            if supervisor.worker is not None:
                supervisor.worker.release_conversation(conversation_id)


async def _probe(plan: ModelPlan) -> list[Availability]:
    # In a thread: another interpreter may have to be asked.
    return await asyncio.to_thread(
        lambda: [probe_engine(engine.name, python=engine.python) for engine in plan.engines]
    )

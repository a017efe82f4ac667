"""Gives out running workers: knows the models, chooses their engines, owns their supervisors."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import logging
import tempfile
from typing import TYPE_CHECKING

import zmq.asyncio

from mm_orch.core.errors import MuAIError
from mm_orch.core.observers import ObserverFanOut
from mm_orch.optimization.cores import find_usable_cores
from mm_orch.optimization.files import ModelFiles
from mm_orch.optimization.ladder import EngineLadder
from mm_orch.optimization.launcher import WorkerLauncher
from mm_orch.optimization.news import News
from mm_orch.optimization.placing.places import GpuPlaces
from mm_orch.optimization.plan import EngineOrder
from mm_orch.optimization.registry import leaves_batching_to_us
from mm_orch.optimization.replica_set import ReplicaSet, Wish
from mm_orch.optimization.replicas.layout import Machine
from mm_orch.optimization.residents import LoadedModel, Residents
from mm_orch.optimization.stand_in import find_idle_limit, is_stand_in, model_of, name_stand_in
from mm_orch.optimization.supervisor import ModelSupervisor
from mm_orch.optimization.trials import EngineTrials, rank_engines
from mm_orch.workers.messages import STAND_IN

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from types import TracebackType

    from mm_orch.core.clock import Clock
    from mm_orch.core.endpoints import Endpoints
    from mm_orch.core.events import Observer
    from mm_orch.core.fallback import Fallback
    from mm_orch.gpus.watch import GpuWatch
    from mm_orch.models.stored import StoredModel
    from mm_orch.optimization.plan import ModelPlan
    from mm_orch.optimization.replica_set import Placed, Replica
    from mm_orch.optimization.replicas.layout import ReplicaRange
    from mm_orch.optimization.residents import Use
    from mm_orch.remote.fleet import RemoteFleet
    from mm_orch.workers.messages import Sharing
    from mm_orch.workers.orders import Answer
    from mm_orch.workers.worker import Worker

logger = logging.getLogger(__name__)


class OptimizationManager:
    """An async context manager: workers live inside it and are stopped when it is left.

    Args:
        plans: the configured models.
        remotes: the servers of those that run elsewhere, by the model's name.
        budget_bytes: memory for all loaded models together.
        max_models: most models loaded at once.
        gpus: reads those of this machine.

    Attributes:
        places: says which workers compute on which of them.
        news: of each model's workers, or of the servers that run it, by its name.
    """

    def __init__(
        self,
        plans: Mapping[str, ModelPlan],
        *,
        remotes: Mapping[str, RemoteFleet],
        budget_bytes: int,
        max_models: int,
        gpus: GpuWatch,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self.plans = dict(plans)
        self._remotes = dict(remotes)
        own = {name: News() for name in plans if name not in remotes}
        self.news = own | {name: one.news for name, one in remotes.items()}
        self._observer = observer
        self._clock = clock
        self._context = zmq.asyncio.Context()
        self._residents = Residents(
            budget_bytes=budget_bytes,
            max_models=max_models,
            expect_bytes=lambda name: self.plans[model_of(name)].expect_bytes(self._files),
            idle_unload_s=lambda name: find_idle_limit(name, self.plans[model_of(name)]),
            observer=observer,
            clock=clock,
        )
        self._lease_directory = tempfile.TemporaryDirectory(prefix="muai-cores-")
        self.places = GpuPlaces(gpus, self._residents, observer=observer, clock=clock)
        self._launcher = WorkerLauncher(
            self.places,
            context=self._context,
            lease_directory=self._lease_directory.name,
            observer=observer,
        )
        self._files = ModelFiles()
        self._tasks = asyncio.TaskGroup()
        # Those that run for as long as this is entered.
        self._lasting: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> OptimizationManager:
        await self._tasks.__aenter__()
        keeping = self._residents.keep_bounds(), self.places.run()
        lasting = [*keeping, *(one.run() for one in self._remotes.values())]
        self._lasting = [self._tasks.create_task(one) for one in lasting]
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in (*self._lasting, *(model.task for model in self._residents.loaded)):
            if task is not None:
                task.cancel()
        self._files.close()
        try:
            await self._tasks.__aexit__(error_type, error, traceback)
        finally:
            self._context.term()
            self._lease_directory.cleanup()

    def find_supervisor(self, model: str) -> ModelSupervisor | None:
        """Return the supervisor of a model that is loaded or loading, else None.

        Of several replicas it is that of one which serves, where there is one.
        """
        loaded = self._residents.find(model)
        return loaded.supervisor if loaded else None

    def find_replicas(self, model: str) -> ReplicaSet | None:
        """Return the replicas of a model that is loaded or loading, else None."""
        loaded = self._residents.find(model)
        return loaded.replicas if loaded else None

    def find_stand_in(self, model: str) -> ModelSupervisor | None:
        """Return the supervisor of a model's stand-in, where it is loaded or loading."""
        return self.find_supervisor(name_stand_in(model))

    def find_remote(self, model: str) -> RemoteFleet | None:
        """Return the servers elsewhere that run a model, where any do."""
        return self._remotes.get(model)

    def preload(self, model: str) -> None:
        """Begin to load a model that is run here; others are asked all the time."""
        if model not in self._remotes:
            self.ensure_started(model)

    def find_memory_bytes(self, model: str) -> int | None:
        """Return what a loaded model was last measured to take."""
        loaded = self._residents.find(model)
        return loaded.num_bytes if loaded and loaded.supervisor.worker else None

    def ensure_started(self, model: str) -> ModelSupervisor:
        """Begin to load the model unless that was begun already."""
        return self._ensure_loaded(model).supervisor

    def using(self, model: str) -> contextlib.AbstractContextManager[Use]:
        """Keep a model in memory from when it is there, for as long as this is entered."""
        return self._residents.using(model)

    async def unload(self, model: str) -> bool:
        """Stop the model's workers and free its memory; return whether it was there."""
        is_loaded = self._residents.find(model) is not None
        for name in (name_stand_in(model), model):
            if self._residents.find(name) is not None:
                await self._residents.unload(name, "it was asked to")
        return is_loaded

    async def ensure_files(self, model: str) -> StoredModel:
        """Return the model's files, fetching them first where they are missing.

        Raises:
            ModelStoreError: they cannot be had; the next call tries again.
        """
        return await self._files.ensure(model, self.plans[model].ensure_files)

    async def acquire(self, model: str) -> Worker:
        """Return a running worker for whoever asks for nothing of it, waiting while it loads.

        Raises:
            ModelUnavailableError: no engine could be started.
        """
        return (await self._ensure_loaded(model).place(Wish())).worker

    async def place(self, model: str, wish: Wish, use: Use | None = None) -> Placed:
        """Choose a running worker for a request, waiting while the model loads.

        Args:
            model: its configured name.
            wish: what the request asks of the choice.
            use: what keeps the model in memory meanwhile.

        Raises:
            ModelUnavailableError: no engine could be started.
        """
        if use is not None:
            self._residents.move(use, model)
        return await self._ensure_loaded(model).place(wish)

    def resize(self, model: str, replicas: int | ReplicaRange | None) -> None:
        """Run a model with so many workers from now on; None for as many as there may be."""
        self.plans[model] = dataclasses.replace(self.plans[model], replicas=replicas)
        if (loaded := self._residents.find(model)) is not None:
            self._want(self.plans[model], loaded.replicas, loaded.replicas.num_wanted)

    def scale(self, model: str, count: int) -> None:
        """Run a loaded model, of which a range of replicas may be, with so many from now on."""
        if (loaded := self._residents.find(model)) is not None:
            self._want(self.plans[model], loaded.replicas, count)

    async def find_obstacle(self, model: str) -> str:
        """Return why there is no memory for another replica of a model; empty where there is."""
        return await self._residents.find_obstacle(model)

    def name_servers(self, model: str, entries: Collection[Endpoints]) -> None:
        """Have a model that runs elsewhere run on these servers from now on."""
        self._remotes[model].name(entries)

    async def acquire_stand_in(self, model: str, use: Use) -> Worker | None:
        """Return a worker of an engine that can do whatever a request asks.

        It runs beside the model's own, and leaves when nobody has needed it for a while. None where
        the model is configured with no such engine, or must not fall back.

        Raises:
            ModelUnavailableError: none could be started.
        """
        name = name_stand_in(model)
        loaded = self._residents.find(name)
        if loaded is None:
            plan, ladder = self.plans[model], self.ensure_started(model).ladder
            able = [one for one in ladder.circuit_by_engine if leaves_batching_to_us(one)]
            if not able or not plan.is_falling_back:
                return None
            kept = ladder.keep(able)
            self._load(name, plan.keep(able), lambda: kept)
        self._residents.move(use, name)
        loaded = self._residents.find(name)
        return await loaded.supervisor.acquire() if loaded else None

    def find_fallback(self, worker: Worker) -> Fallback | None:
        """Return why a worker's engine is not the preferred one, where it is another."""
        supervisor = self._find_runner(worker)
        return supervisor.fallback if supervisor else None

    def count_step_fault(self, worker: Worker, reason: str) -> None:
        """Note a request that an engine failed though its worker lives on."""
        if (supervisor := self._find_runner(worker)) is not None:
            supervisor.count_step_fault(worker.engine, reason)

    def record_success(self, worker: Worker) -> None:
        """Note a request that an engine has answered."""
        if (supervisor := self._find_runner(worker)) is not None:
            supervisor.record_success(worker.engine)

    def release_conversation(self, conversation_id: str) -> None:
        """Have every running worker free what only this conversation needs."""
        for fleet in self._remotes.values():
            fleet.placing.forget_conversation(conversation_id)
        for loaded in self._residents.loaded:
            loaded.replicas.release_conversation(conversation_id)

    @property
    def workers(self) -> list[Worker]:
        """Those that take requests now, stand-ins among them."""
        return [worker for loaded in self._residents.loaded for worker in loaded.replicas.workers]

    def share(self, sharing: Sharing) -> list[tuple[Worker, Answer]]:
        """Have all models share steps and memory like this, those that are loaded later too.

        Returns:
            the workers that were told, each with its answer to come.
        """
        self.plans = {name: plan.share(sharing) for name, plan in self.plans.items()}
        return [(worker, worker.orders.give(sharing)) for worker in self.workers]

    def _find_runner(self, worker: Worker) -> ModelSupervisor | None:
        """Return the supervisor that a request's worker is or was one of."""
        if worker.spec.replica == STAND_IN:
            return self.find_stand_in(worker.model)
        replicas = self.find_replicas(worker.model)
        replica = replicas.find(worker.spec.replica) if replicas is not None else None
        return replica.supervisor if replica is not None else None

    def _ensure_loaded(self, model: str) -> ReplicaSet:
        if (loaded := self._residents.find(model)) is not None:
            return loaded.replicas
        plan = self.plans[model]
        return self._load(model, plan, lambda: self._make_ladder(plan))

    def _make_ladder(self, plan: ModelPlan) -> EngineLadder:
        # Another replica prefers what the first was found to be best run by.
        first = self.find_supervisor(plan.name)
        names = [engine.name for engine in plan.engines]
        engines = list(first.ladder.circuit_by_engine) if first is not None else names
        return EngineLadder(engines, self._clock, is_falling_back=plan.is_falling_back)

    def _load(
        self, name: str, plan: ModelPlan, make_ladder: Callable[[], EngineLadder]
    ) -> ReplicaSet:
        replicas = ReplicaSet(
            plan.name,
            lambda replica, news: self._make_supervisor(plan, make_ladder(), replica, news),
            find_obstacle=lambda: self._residents.find_obstacle(name),
            observer=self._observer,
            balancing=plan.balancing,
            first_number=STAND_IN if is_stand_in(name) else 0,
            news=self.news[plan.name],
        )
        loaded = LoadedModel(replicas, self._clock())
        self._residents.add(name, loaded)
        loaded.task = self._tasks.create_task(
            self._run(name, plan, replicas),
            name=f"supervise {name}",
            # It outlives the request that began it, and is no part of that one's trace.
            context=contextvars.Context(),
        )
        return replicas

    def _want(self, plan: ModelPlan, replicas: ReplicaSet, num_now: int) -> None:
        machine = Machine(cores=find_usable_cores(), num_gpus=self.places.count_gpus(plan.device))
        replicas.want(plan.share_out(num_now, machine, self._residents.count_fitting))

    async def _run(self, name: str, plan: ModelPlan, replicas: ReplicaSet) -> None:
        # Its size is known once its files are there; a failure is the supervisor's to tell.
        with contextlib.suppress(MuAIError, OSError):
            await self.ensure_files(plan.name)
        await self._residents.make_room(name)
        if not is_stand_in(name):
            plan = self.plans[plan.name]
            await self.places.read()
        self._want(plan, replicas, replicas.num_wanted)
        if plan.order is not EngineOrder.AS_LISTED:
            try:
                await self._order_engines(plan, replicas, is_stand_in=is_stand_in(name))
            except (MuAIError, OSError) as error:
                logger.warning("%s: engines stay as they are listed: %s", name, error)
        await replicas.run()

    async def _order_engines(
        self, plan: ModelPlan, replicas: ReplicaSet, *, is_stand_in: bool
    ) -> None:
        [first], supervisor = replicas.replicas, replicas.supervisor
        stored = await self.ensure_files(plan.name)
        ranked = await rank_engines(
            plan,
            stored,
            list(supervisor.ladder.circuit_by_engine),
            trials=EngineTrials(plan.cache_directory / "engine-trials.json", self._clock),
            launch=lambda engine: self._launcher.launch(
                self._renew(plan),
                engine,
                stored,
                ladder=supervisor.ladder,
                replica=first,
                # Nobody is to count what these workers do.
                observer=ObserverFanOut(),
            ),
            note=None if is_stand_in else supervisor.note,
        )
        supervisor.ladder.order(ranked)

    def _renew(self, plan: ModelPlan) -> ModelPlan:
        # A stand-in's plan, or one from before a change, has the model's engines and no news.
        return plan.share(self.plans[plan.name].sharing)

    def _make_supervisor(
        self, plan: ModelPlan, ladder: EngineLadder, replica: Replica, news: News
    ) -> ModelSupervisor:
        return ModelSupervisor(
            plan.name,
            ladder,
            probe=lambda stored: self._launcher.probe(self._renew(plan), stored, ladder, replica),
            ensure_files=lambda: self.ensure_files(plan.name),
            launch=lambda engine, stored: self._launcher.launch(
                self._renew(plan), engine, stored, ladder=ladder, replica=replica
            ),
            find_fault=self.places.find_fault,
            observer=self._observer,
            clock=self._clock,
            watchdog_timeout_s=plan.watchdog_timeout_s,
            bring_up_to_date=self._bring_up_to_date,
            replica=replica.number,
            news=news,
        )

    def _bring_up_to_date(self, worker: Worker) -> None:
        sharing = self.plans[worker.model].sharing
        if worker.orders.told != sharing and not worker.is_dead:
            worker.orders.give(sharing)

"""The composition root: the one place that names concrete classes and puts them together."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.autoscaling.managed import scaling
from mm_orch.consciousness.goals import goals_of
from mm_orch.core.observers import ObserverFanOut
from mm_orch.core.version import __version__
from mm_orch.documents.library import DocumentLibrary
from mm_orch.gpus.nvml import find_gpu_reader
from mm_orch.gpus.watch import GpuWatch
from mm_orch.live.cluster import open_places
from mm_orch.live.configuration import LiveConfiguration
from mm_orch.live.plans import make_plans
from mm_orch.models.guide_check import GuideChecker
from mm_orch.optimization.footprint import find_budget_bytes
from mm_orch.optimization.manager import OptimizationManager
from mm_orch.optimization.registry import probe_engines
from mm_orch.orchestration.admission import Admission
from mm_orch.orchestration.embedding import EmbeddingOrchestrator
from mm_orch.orchestration.orchestrator import Orchestrator
from mm_orch.orchestration.status import SystemStatus
from mm_orch.orchestration.usage import UsageBook
from mm_orch.orchestration.usage_sharing import open_usage
from mm_orch.remote.assembly import make_remotes
from mm_orch.routing.assembly import make_model_chooser, open_learner
from mm_orch.routing.outcomes import NoOutcomes
from mm_orch.routing.router import Router
from mm_orch.storage.stores import open_stores
from mm_orch.workflows.account import Watch
from mm_orch.workflows.as_models import ModelsAndWorkflows
from mm_orch.workflows.assembly import make_sources, make_workflows
from mm_orch.workflows.finding import make_registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from mm_orch.config import Config
    from mm_orch.consciousness.mind import Mind
    from mm_orch.consciousness.outcome_statistics import PastOutcomes
    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Observer
    from mm_orch.models.progress import Progress
    from mm_orch.monitoring.monitor import Monitor
    from mm_orch.optimization.plan import ModelPlan
    from mm_orch.orchestration.usage_sharing import UsageReports
    from mm_orch.storage.shared_state import SharedState
    from mm_orch.storage.stores import Stores
    from mm_orch.tuning.loop import Tuner
    from mm_orch.workflows.registry import WorkflowRegistry
    from mm_orch.workflows.running import Workflows


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The running parts, put together.

    Attributes:
        config: with which they were started; what is in force now is told by ``live``.
        monitor: watches all of them; None where it is switched off, or nobody would look.
        mind: knows the system itself; None where it is switched off.
        usage: what callers have used, of all servers that share a database.
        shared: what these know of each other; None where this one is by itself.
    """

    config: Config
    router: Router
    manager: OptimizationManager
    orchestrator: Orchestrator
    embedder: EmbeddingOrchestrator
    workflows: Workflows
    library: DocumentLibrary
    status: SystemStatus
    live: LiveConfiguration
    usage: UsageReports
    shared: SharedState | None
    observer: ObserverFanOut
    monitor: Monitor | None
    mind: Mind | None

    @property
    def generator(self) -> ModelsAndWorkflows:
        """Takes requests for models and for workflows."""
        return ModelsAndWorkflows(self.orchestrator, self.workflows)

    @property
    def preloaded_models(self) -> tuple[str, ...]:
        """The models that a server loads before it is ready."""
        return _preloaded(self.config)


@asynccontextmanager
async def open_runtime(
    config: Config,
    *,
    engine: str | None = None,
    progress: Progress | None = None,
    is_server: bool = False,
    origins: Mapping[str, str] | None = None,
) -> AsyncIterator[Runtime]:
    """Build everything; on leaving, stop every worker.

    Args:
        config: the whole configuration.
        engine: run every model with this engine, whatever the configuration prefers.
        progress: told about downloads.
        is_server: watch what happens, and log a line for each request.
        origins: who set each option, by dotted key; None where that is not known.
    """
    observer = ObserverFanOut([book := UsageBook()])
    admission = Admission(config.monitoring.server.queue_capacity, time.monotonic)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        stores = await enter(open_stores(config, is_server=is_server))
        place = await enter(open_places(config, is_server=is_server))
        plans = make_plans(config, engine, progress, is_server=is_server, place=place)
        router = _make_router(config, plans)
        checker = await enter(aclosing(GuideChecker()))
        registry = await asyncio.to_thread(make_registry, config, checker.find_reason)
        gpus = await enter(aclosing(GpuWatch(find_gpu_reader)))
        monitor = _make_monitor(config, registry.names, observer, gpus) if is_server else None
        await enter(monitor.running() if monitor else nullcontext())
        manager = await enter(_make_manager(config, plans, observer, gpus))
        status = _make_status(config, manager, admission, stores, monitor, clock=time.monotonic)
        opening = _open_mind(config, status, registry, observer, stores, is_kept=is_server)
        mind = await enter(opening)
        past = _join(mind, observer)
        serving = config, router, checker, admission, manager
        orchestrator, embedder = _make_orchestrators(*serving, observer=observer, past=past)
        biases = await enter(open_learner(config, mind, observer, is_kept=is_server))
        watch = Watch(observer, time.monotonic, monitor.start_trace if monitor else None)
        sources = make_sources(stores, past, biases, mind)
        parts = config, registry, orchestrator, embedder, stores, sources
        live = _make_live(config, origins, manager, orchestrator, admission, observer=observer)
        if is_server:
            await enter(scaling(manager, live, observer, status, time.monotonic))
        yield Runtime(
            config=config,
            router=router,
            manager=manager,
            orchestrator=orchestrator,
            embedder=embedder,
            workflows=make_workflows(*parts, watch=watch),
            library=_make_library(config, orchestrator, embedder, stores),
            status=status,
            live=live,
            usage=await enter(open_usage(book, stores.shared)),
            shared=stores.shared,
            observer=observer,
            monitor=monitor,
            mind=mind,
        )


def _join(mind: Mind | None, observer: ObserverFanOut) -> PastOutcomes:
    """Have the mind observe, and return what it remembers."""
    observer.add((mind,) if mind else ())
    return mind.state.memory if mind else NoOutcomes()


def make_tuner(runtime: Runtime) -> Tuner | None:
    """Return what tunes the options in force, to be run; None where it is switched off."""
    config = runtime.config
    if not config.optimization.tuner.enabled:
        return None
    from mm_orch.tuning.kept_memory import find_memory
    from mm_orch.tuning.loop import Tuner

    tuner = Tuner(
        runtime.live,
        observer=runtime.observer,
        kept=find_memory(runtime.shared, config.system.data_directory / "tuner.json"),
        target_p95_ms=config.optimization.tuner.target_p95_ms,
    )
    runtime.observer.add((tuner.observer_of_path,))
    return tuner


def _make_manager(
    config: Config, plans: Mapping[str, ModelPlan], observer: Observer, gpus: GpuWatch
) -> OptimizationManager:
    clock = time.monotonic
    return OptimizationManager(
        plans,
        remotes=make_remotes(config, observer, clock),
        budget_bytes=find_budget_bytes(config.system.model_memory_mb),
        max_models=config.system.max_cached_models,
        gpus=gpus,
        observer=observer,
        clock=clock,
    )


def _make_router(config: Config, plans: Mapping[str, ModelPlan]) -> Router:
    return Router(
        {name: plan.aliases for name, plan in plans.items()},
        config.default_model_name,
        config.default_embedder_name,
    )


def _make_orchestrators(
    config: Config,
    router: Router,
    checker: GuideChecker,
    admission: Admission,
    manager: OptimizationManager,
    *,
    observer: ObserverFanOut,
    past: PastOutcomes,
) -> tuple[Orchestrator, EmbeddingOrchestrator]:
    clock = time.monotonic
    chooser = make_model_chooser(
        config,
        manager,
        admission,
        observer=observer,
        goals=goals_of(config.consciousness),
        past=past,
        clock=clock,
    )
    orchestrator = Orchestrator(
        find_model=router.choose,
        choose_model=chooser.choose,
        admission=admission,
        manager=manager,
        observer=observer,
        clock=clock,
        request_timeout_s=config.api.request_timeout_s,
        max_failovers=_max_failovers(config),
        find_reason=checker.find_reason,
        is_keeping_content=_keeps_content(config),
    )
    embedder = EmbeddingOrchestrator(
        choose_model=router.choose_embedder,
        lobby=orchestrator,
        manager=manager,
        observer=observer,
        clock=clock,
        request_timeout_s=config.api.request_timeout_s,
    )
    return orchestrator, embedder


def _make_library(
    config: Config, orchestrator: Orchestrator, embedder: EmbeddingOrchestrator, stores: Stores
) -> DocumentLibrary:
    return DocumentLibrary(
        stores.documents,
        embedder=embedder,
        places=orchestrator.entrance,
        embedding_model=config.default_embedder_name,
        default_model=config.default_model_name,
        timeout_s=config.api.request_timeout_s,
        is_enabled=config.workflows.enabled,
    )


def _open_mind(
    config: Config,
    status: SystemStatus,
    registry: WorkflowRegistry,
    observer: Observer,
    stores: Stores,
    *,
    is_kept: bool,
) -> AbstractAsyncContextManager[Mind | None]:
    # Switched off, nothing of it is imported, and no file is made.
    if not config.consciousness.enabled:
        return nullcontext()
    from mm_orch.consciousness.assembly import open_mind

    return open_mind(
        config,
        find_status=status.status,
        find_workflows=registry.survey,
        observer=observer,
        is_kept=is_kept,
        shared=stores.shared.outcomes if stores.shared else None,
    )


def _make_live(
    config: Config,
    origins: Mapping[str, str] | None,
    manager: OptimizationManager,
    orchestrator: Orchestrator,
    admission: Admission,
    *,
    observer: Observer,
) -> LiveConfiguration:
    return LiveConfiguration(
        config,
        origins or {},
        manager=manager,
        admission=admission,
        gate=orchestrator.entrance.gate,
        observer=observer,
    )


def _preloaded(config: Config) -> tuple[str, ...]:
    return tuple(config.preload_model_names) or (config.default_model_name,)


def _make_status(
    config: Config,
    manager: OptimizationManager,
    admission: Admission,
    stores: Stores,
    monitor: Monitor | None,
    *,
    clock: Clock,
) -> SystemStatus:
    return SystemStatus(
        manager=manager,
        admission=admission,
        required_models=_preloaded(config),
        default_model=config.default_model_name,
        engines=probe_engines(config.python_by_engine),
        find_alerts=monitor.firing if monitor else lambda: None,
        find_caches=monitor.caches if monitor else dict,
        find_store_failure=lambda: stores.failure,
        clock=clock,
        version=__version__,
    )


def _max_failovers(config: Config) -> int:
    optimization = config.optimization
    return config.orchestration.max_failovers if optimization.fallback_on_error else 0


def _keeps_content(config: Config) -> bool:
    monitoring = config.monitoring
    tracing = monitoring.tracing
    return monitoring.enabled and tracing.enabled and tracing.capture_content


def _make_monitor(
    config: Config, workflows: tuple[str, ...], observer: ObserverFanOut, gpus: GpuWatch
) -> Monitor | None:
    # With monitoring off, nothing of it is imported.
    if not config.monitoring.enabled:
        return None
    from mm_orch.monitoring.monitor import Monitor

    vllm = config.optimization.vllm
    monitor = Monitor(
        config.monitoring,
        tuple(config.models),
        workflows=workflows,
        observer=observer,
        reserved_gpu_ratio=vllm.gpu_memory_utilization if vllm.enabled else 0.0,
        gpus=gpus,
    )
    observer.add(monitor.observers)
    return monitor

"""Says how each configured model is to be run, as the configuration has it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from mm_orch.config.schema.values import read_range
from mm_orch.live.sharing import find_sharing
from mm_orch.models.store import ModelStore
from mm_orch.optimization.plan import EngineOrder, EnginePlan, ModelPlan
from mm_orch.optimization.replicas.layout import ReplicaRange

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.config import Config
    from mm_orch.models.progress import Progress
    from mm_orch.workers.placement import Placement


def make_plans(
    config: Config,
    engine: str | None,
    progress: Progress | None,
    *,
    is_server: bool,
    place: Callable[[], Placement | None] = lambda: None,
) -> dict[str, ModelPlan]:
    """Return the plan of each model, by its name.

    Args:
        config: the whole configuration.
        engine: run every model with this one, whatever the configuration prefers.
        progress: told about downloads.
        is_server: it starts once and answers for long.
        place: says where a worker that is started now is to run; None for this machine.
    """
    store = ModelStore(config.system.data_directory, progress=progress)
    return {
        name: replace(
            _plan(config, name, store, engine, _find_order(config, name, is_server=is_server)),
            place=place,
            is_on_cluster=is_server and config.cluster.address is not None,
        )
        for name in config.models
    }


def _plan(
    config: Config, name: str, store: ModelStore, engine: str | None, order: EngineOrder
) -> ModelPlan:
    model, optimization = config.models[name], config.optimization
    sharing = find_sharing(config)
    return ModelPlan(
        name=name,
        task=model.task,
        aliases=tuple(model.aliases),
        source=model.source,
        ensure_files=partial(store.ensure, name, model.source, with_code=model.trust_remote_code),
        engines=tuple(
            EnginePlan(
                name=one,
                dtype=config.dtype_for(name, one),
                python=config.python_by_engine.get(one, ""),
                settings=config.settings_for(one),
            )
            for one in ([engine] if engine else config.engines_for(name))
        ),
        order=order,
        context_length=model.context_length,
        device=config.system.device,
        trust_remote_code=model.trust_remote_code,
        batcher=sharing.batcher,
        cache=sharing.cache,
        max_kv_bytes=sharing.max_kv_bytes,
        cache_directory=config.system.data_directory / "compiled",
        is_falling_back=optimization.fallback_on_error,
        watchdog_timeout_s=config.orchestration.watchdog_timeout_s,
        idle_unload_s=model.idle_unload_s,
        replicas=find_replicas(config, name),
        balancing=optimization.balancing,
    )


def find_replicas(config: Config, name: str) -> int | ReplicaRange | None:
    """Return how many workers a model is to have; None for as many as there may be."""
    replicas = config.models[name].replicas
    if isinstance(replicas, int):
        return replicas
    return None if replicas == "auto" else ReplicaRange(*read_range(replicas))


def _find_order(config: Config, name: str, *, is_server: bool) -> EngineOrder:
    model = config.models[name]
    if config.optimization.engine_preference != "auto" or model.engines or model.task != "generate":
        return EngineOrder.AS_LISTED
    # Who wants one answer is served best by what starts first.
    return EngineOrder.FASTEST if is_server else EngineOrder.QUICKEST_START

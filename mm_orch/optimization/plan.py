"""How configured models are to be run: what the manager is told."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mm_orch.optimization.cores import count_usable_cores
from mm_orch.optimization.engines.contract import EngineSpec
from mm_orch.optimization.registry import probe_engine
from mm_orch.optimization.replicas.layout import (
    Machine,
    ReplicaRange,
    Share,
    find_count,
    share_out,
    share_range,
)
from mm_orch.workers.messages import Sharing, WorkerSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from mm_orch.batching.batcher import BatcherSpec
    from mm_orch.core.generation import Task
    from mm_orch.models.stored import StoredModel
    from mm_orch.optimization.engines.contract import Availability
    from mm_orch.optimization.files import ModelFiles
    from mm_orch.workers.messages import CacheSpec
    from mm_orch.workers.placement import Placement

WHOLE = Share()
# What stands here for a worker on a cluster; measured, as docs/cluster.md says.
_RELAY_BYTES = 58 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlan:
    """How a model is to be run by one engine.

    Attributes:
        name: the engine.
        dtype: auto, fp32, bf16, fp16, int8 or int4.
        python: interpreter that has its library; empty for this one.
        settings: its own section of the configuration.
    """

    name: str
    dtype: str = "auto"
    python: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


class EngineOrder(enum.Enum):
    """By what a model's engines are preferred."""

    AS_LISTED = "as_listed"
    FASTEST = "fastest"
    """Tried once on this machine, and remembered."""
    QUICKEST_START = "quickest_start"
    """By what is remembered of that; else as listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """How one configured model is to be run.

    Attributes:
        name: the configured name.
        task: what it is for.
        aliases: other names that requests may use.
        source: where its files come from, in the store's grammar.
        ensure_files: fetches what is missing and returns the files; blocks, so it runs in a thread.
        engines: in order of preference, or ...
        order: ... to be ordered by this.
        context_length: bound below the model's own, or None.
        device: auto, cpu, cuda or cuda:N.
        trust_remote_code: allow code from the model's files to run.
        batcher: how sequences share the engine's steps.
        cache: what is kept of their keys and values.
        max_kv_bytes: most memory for keys and values; 0 for that of one sequence of full length.
        start_batch_size: engines are started for so many sequences at least, however few may
            run now: not every engine can take more later.
        cache_directory: where engines keep what they compile.
        is_falling_back: go on with the next engine when one fails.
        watchdog_timeout_s: a worker with work that makes no step for so long is killed.
        idle_unload_s: without a request for so long it leaves the memory; None for never.
        replicas: workers side by side; None for as many as devices, cores and memory permit, a
            range where the load decides.
        balancing: by what one of these is chosen for a request, as the option has it.
        place: says where a worker that is started now is to run; None for this machine.
        is_on_cluster: workers run on a cluster, which gives them cores and GPUs.
    """

    name: str
    task: Task = "generate"
    aliases: tuple[str, ...]
    source: str
    ensure_files: Callable[[], StoredModel]
    engines: tuple[EnginePlan, ...]
    context_length: int | None
    device: str
    trust_remote_code: bool
    batcher: BatcherSpec
    cache: CacheSpec
    max_kv_bytes: int
    cache_directory: Path
    start_batch_size: int = 1
    order: EngineOrder = EngineOrder.AS_LISTED
    is_falling_back: bool = True
    watchdog_timeout_s: float = 120.0
    idle_unload_s: float | None = None
    replicas: int | ReplicaRange | None = 1
    balancing: str = "prefix"
    place: Callable[[], Placement | None] = lambda: None
    is_on_cluster: bool = False

    def share(self, sharing: Sharing) -> ModelPlan:
        """Return the plan with steps and memory shared like this."""
        return replace(
            self,
            batcher=sharing.batcher,
            cache=sharing.cache,
            max_kv_bytes=sharing.max_kv_bytes,
            start_batch_size=max(self.start_batch_size, self.batcher.max_batch_size),
        )

    @property
    def sharing(self) -> Sharing:
        """How the model's sequences share steps and memory."""
        return Sharing(batcher=self.batcher, cache=self.cache, max_kv_bytes=self.max_kv_bytes)

    async def probe_engines(self) -> list[Availability]:
        """Say of each engine whether it can run here."""
        # In a thread: another interpreter may have to be asked.
        return await asyncio.to_thread(
            lambda: [probe_engine(one.name, self.task, python=one.python) for one in self.engines]
        )

    def expect_bytes(self, files: ModelFiles) -> int:
        """Return what a worker is likely to take of this machine's memory; 0 if unknown.

        That is the size of its files, the least that weights take. On a cluster they lie elsewhere.
        """
        return _RELAY_BYTES if self.is_on_cluster else files.find_size_bytes(self.name)

    def bound_context(self, stored: StoredModel) -> int:
        """Most tokens of prompt and output together: the model's own, or less where configured."""
        return min(self.context_length or stored.context_length, stored.context_length)

    def make_worker_spec(
        self,
        engine_name: str,
        stored: StoredModel,
        *,
        lease_directory: str,
        replica: int = 0,
        share: Share = WHOLE,
    ) -> WorkerSpec:
        """Return what a worker of one of the engines is told.

        Args:
            engine_name: one of this plan's.
            stored: the model's files.
            lease_directory: where the workers of this server take turns at the cores.
            replica: its number among the workers of the model.
            share: what it computes on.
        """
        engine = next(engine for engine in self.engines if engine.name == engine_name)
        return WorkerSpec(
            address="",
            placement=self.place(),
            lease_directory=lease_directory,
            engine=engine.name,
            task=self.task,
            python=engine.python,
            replica=replica,
            cores=share.cores,
            engine_spec=EngineSpec(
                model=self.name,
                directory=stored.directory,
                context_length=self.bound_context(stored),
                eos_token_ids=stored.eos_token_ids,
                dtype=engine.dtype,
                device=self.device,
                num_threads=len(share.cores) or count_usable_cores(),
                cache_directory=str(self.cache_directory),
                max_kv_bytes=self.max_kv_bytes,
                trust_remote_code=self.trust_remote_code,
                gguf_file=stored.gguf_file,
                max_batch_size=max(self.start_batch_size, self.batcher.max_batch_size),
                max_batch_tokens=self.batcher.max_batch_tokens,
                is_reusing=self.cache.is_reusing,
                settings=dict(engine.settings),
            ),
            batcher=self.batcher,
            cache=self.cache,
        )

    @property
    def num_gpus_each(self) -> int:
        """GPUs that a replica computes on, as the preferred engine that takes several wants it."""
        counts = (find_parallelism(engine.settings) for engine in self.engines)
        return max((sharing * stages for sharing, stages in counts), default=1)

    def keep(self, engines: Collection[str]) -> ModelPlan:
        """Return the plan of one worker of its own that runs with these engines alone."""
        kept = tuple(engine for engine in self.engines if engine.name in engines)
        return replace(self, engines=kept, replicas=1)

    def share_out(
        self, num_now: int, machine: Machine, count_fitting: Callable[[str], int]
    ) -> list[Share]:
        """Return the shares of the replicas that there should be.

        Args:
            num_now: how many there are or are to be, where that is within a range.
            machine: what there is to share among them.
            count_fitting: says how many of a model fit into the memory.
        """
        match self.replicas:
            case None:
                count = find_count(
                    machine, num_gpus_each=self.num_gpus_each, num_fitting=count_fitting(self.name)
                )
            case ReplicaRange() as bounds:
                count = bounds.clamp(num_now)
                if not self.is_on_cluster:
                    return share_range(count, bounds.most, machine)
            case count:
                pass
        if self.is_on_cluster:
            return [WHOLE] * count
        return share_out(count, machine)


def find_parallelism(settings: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many GPUs are to share each layer, and how many stages the depth is cut into."""
    sharing = settings.get("tensor_parallel_size", settings.get("tensor_parallel", 1))
    return int(sharing), int(settings.get("pipeline_parallel_size", 1))

"""Leases running workers: knows the models, chooses their engines, owns their supervisors."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import zmq.asyncio

from mm_orch.core.threads import start_abandonable
from mm_orch.optimization.choice import choose_engine
from mm_orch.optimization.engines.contract import EngineSpec
from mm_orch.optimization.registry import probe_engine
from mm_orch.workers.messages import WorkerSpec
from mm_orch.workers.supervisor import WorkerSupervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    from mm_orch.batching.batcher import BatcherSpec
    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Observer
    from mm_orch.models.stored import StoredModel
    from mm_orch.workers.messages import CacheSpec
    from mm_orch.workers.worker import Worker

logger = logging.getLogger(__name__)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """How one configured model is to be run.

    Attributes:
        name: the configured name.
        aliases: other names that requests may use.
        source: where its files come from, in the store's grammar.
        ensure_files: fetches what is missing and returns the files; blocks, so it runs in a thread.
        engines: in order of preference.
        context_length: bound below the model's own, or None.
        device: auto, cpu, cuda or cuda:N.
        trust_remote_code: allow code from the model's files to run.
        batcher: how sequences share the engine's steps.
        cache: what is kept of their keys and values.
        max_kv_bytes: most memory for keys and values; 0 for that of one sequence of full length.
        cache_directory: where engines keep what they compile.
    """

    name: str
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

    def bound_context(self, stored: StoredModel) -> int:
        """Most tokens of prompt and output together: the model's own, or less where configured."""
        return min(self.context_length or stored.context_length, stored.context_length)


class OptimizationManager:
    """An async context manager: workers live inside it and are stopped when it is left."""

    def __init__(self, plans: Mapping[str, ModelPlan], *, observer: Observer, clock: Clock) -> None:
        self.plans = dict(plans)
        self._observer = observer
        self._clock = clock
        self._context = zmq.asyncio.Context()
        self._supervisors: dict[str, WorkerSupervisor] = {}
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

    def find_supervisor(self, model: str) -> WorkerSupervisor | None:
        """Return the supervisor of a model that has been asked for, else None."""
        return self._supervisors.get(model)

    def ensure_started(self, model: str) -> WorkerSupervisor:
        """Begin to load the model unless that was begun already."""
        supervisor = self._supervisors.get(model)
        if supervisor is None:
            supervisor = WorkerSupervisor(
                model,
                lambda: self._prepare(self.plans[model]),
                context=self._context,
                observer=self._observer,
                clock=self._clock,
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

    def release_conversation(self, conversation_id: str) -> None:
        """Have every running worker free what only this conversation needs."""
        for supervisor in self._supervisors.values():
            if supervisor.worker is not None:
                supervisor.worker.release_conversation(conversation_id)

    async def _prepare(self, plan: ModelPlan) -> WorkerSpec:
        choice = choose_engine([probe_engine(engine.name) for engine in plan.engines])
        for skipped in choice.skipped:
            logger.debug("%s: engine %s skipped: %s", plan.name, skipped.engine, skipped.reason)
        stored = await self.ensure_files(plan.name)
        engine = next(engine for engine in plan.engines if engine.name == choice.engine)
        return WorkerSpec(
            address="",
            engine=engine.name,
            python=engine.python,
            engine_spec=EngineSpec(
                model=plan.name,
                directory=stored.directory,
                context_length=plan.bound_context(stored),
                eos_token_ids=stored.eos_token_ids,
                dtype=engine.dtype,
                device=plan.device,
                num_threads=count_usable_cores(),
                cache_directory=str(plan.cache_directory),
                max_kv_bytes=plan.max_kv_bytes,
                trust_remote_code=plan.trust_remote_code,
                gguf_file=stored.gguf_file,
                max_batch_size=plan.batcher.max_batch_size,
                max_batch_tokens=plan.batcher.max_batch_tokens,
                is_reusing=plan.cache.is_reusing,
                settings=dict(engine.settings),
            ),
            batcher=plan.batcher,
            cache=plan.cache,
        )


def count_usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

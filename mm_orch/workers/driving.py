"""Drives an engine inside the worker: one face for all kinds of them."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mm_orch.batching.batcher import DynamicBatcher
from mm_orch.batching.guidance import Guidance
from mm_orch.core.errors import EngineCrashedError, EngineError
from mm_orch.kv_cache.cache import KVCache
from mm_orch.models.grammar import GrammarCompiler
from mm_orch.optimization.engines.contract import StepBackend
from mm_orch.optimization.engines.embedding import EmbeddingBackend
from mm_orch.workers import messages
from mm_orch.workers.embedding import EmbeddingDriver
from mm_orch.workers.failures import as_failures
from mm_orch.workers.kv_pool import KVPool
from mm_orch.workers.lease import CoreLease

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mm_orch.kv_cache.cache import CacheStats
    from mm_orch.optimization.engines.contract import (
        EngineFacts,
        Sequence,
        StreamEngine,
        StreamReport,
    )

logger = logging.getLogger(__name__)


class Driver(Protocol):
    """What the worker's loop does with its engine."""

    @property
    def wait_s(self) -> float | None:
        """Seconds until :meth:`advance` should be called unless more arrives; None for never."""

    @property
    def wake_fd(self) -> int | None:
        """A descriptor that says when to call :meth:`advance`, or None."""

    @property
    def sharing(self) -> messages.Sharing:
        """How steps and memory are shared now."""

    def abort(self, sequence_ids: Iterable[str]) -> messages.CacheChanged | None:
        """Drop these sequences; those that have ended are ignored.

        Say what the cache holds where that has let memory go.
        """

    def release_conversation(self, conversation_id: str) -> messages.CacheChanged | None:
        """Free what only this conversation needs; say what the cache holds then."""

    def configure(self, sharing: messages.Sharing) -> CacheStats | None:
        """Share steps and memory like this from the next step on; say what the cache holds then.

        Raises:
            EngineError: it cannot be done, and nothing has changed.
        """

    def advance(self) -> messages.StepDone | None:
        """Let the engine work; return what there is to report, or None."""

    def stop(self) -> None:
        """Free everything."""


class StepDriver:
    """A step backend under our batcher and our cache."""

    def __init__(
        self,
        backend: StepBackend,
        facts: EngineFacts,
        spec: messages.WorkerSpec,
        lease: CoreLease,
    ) -> None:
        self._backend = backend
        self._lease = lease
        self._policy = spec.cache.policy
        self._cache = KVCache(
            facts.num_kv_blocks,
            facts.kv_block_tokens,
            policy=spec.cache.policy,
            is_reusing=spec.cache.is_reusing,
        )
        self._pool = KVPool(backend, facts, spec.engine_spec, self._cache)
        model = spec.engine_spec
        guidance = Guidance(GrammarCompiler(Path(model.directory), model.eos_token_ids))
        self._batcher = DynamicBatcher(backend, self._cache, spec.batcher, time.monotonic, guidance)

    @property
    def wait_s(self) -> float | None:
        """See Driver."""
        return self._batcher.wait_s

    @property
    def wake_fd(self) -> int | None:
        """The batcher says by itself when a step is due."""
        return None

    @property
    def sharing(self) -> messages.Sharing:
        """See Driver; asked of those who act by it."""
        return messages.Sharing(
            batcher=self._batcher.spec,
            cache=messages.CacheSpec(is_reusing=self._cache.is_reusing, policy=self._policy),
            max_kv_bytes=self._pool.max_kv_bytes,
        )

    def add(self, sequence: Sequence, *, since_s: float | None) -> None:
        """Queue a sequence that has waited since then."""
        self._batcher.add(sequence, since_s=since_s)

    def abort(self, sequence_ids: Iterable[str]) -> messages.CacheChanged | None:
        """Drop sequences; see Driver."""
        self._batcher.abort(sequence_ids)
        return messages.CacheChanged(self._cache.stats) if self._pool.give_back() else None

    def release_conversation(self, conversation_id: str) -> messages.CacheChanged | None:
        """Free blocks; see Driver."""
        self._batcher.release_conversation(conversation_id)
        return messages.CacheChanged(self._cache.stats)

    def configure(self, sharing: messages.Sharing) -> CacheStats | None:
        """Fit memory and batcher; see Driver."""
        self._pool.set_bound(sharing.max_kv_bytes, is_reusing=sharing.cache.is_reusing)
        self._batcher.configure(sharing.batcher)
        return self._cache.stats

    def advance(self) -> messages.StepDone | None:
        """Compute one step where there is work."""
        if not self._batcher.has_work:
            return None
        with self._lease.held():
            report = self._batcher.step()
        self._pool.give_back()
        if not self._batcher.has_work:
            # Nobody waits now. A fault here ends the process, which is started anew.
            self._cache.check()
        return messages.StepDone(
            chunks=tuple(report.chunks),
            started=tuple(report.started),
            failures=as_failures(report.failed),
            phase=report.phase,
            batch_size=report.batch_size,
            duration_s=report.duration_s,
            num_running=self._batcher.num_running,
            num_waiting=self._batcher.num_waiting,
            cache=self._cache.stats,
        )

    def stop(self) -> None:
        """Stop the backend."""
        self._backend.stop()


class StreamDriver:
    """An engine with a batcher of its own."""

    def __init__(self, engine: StreamEngine, lease: CoreLease, sharing: messages.Sharing) -> None:
        self.sharing = sharing
        self._engine = engine
        self._lease = lease
        self._unfinished_ids: set[str] = set()

    @property
    def wait_s(self) -> float | None:
        """An engine that wakes us needs no timer."""
        return 0.0 if self._engine.has_work and self._engine.wake_fd is None else None

    @property
    def wake_fd(self) -> int | None:
        """See Driver."""
        return self._engine.wake_fd

    def add(self, sequence: Sequence) -> None:
        """Hand a sequence to the engine."""
        self._unfinished_ids.add(sequence.sequence_id)
        self._engine.submit(sequence)

    def abort(self, sequence_ids: Iterable[str]) -> messages.CacheChanged | None:
        """Drop sequences."""
        dropped = self._unfinished_ids.intersection(sequence_ids)
        self._unfinished_ids -= dropped
        self._engine.abort(dropped)
        return None

    def release_conversation(self, conversation_id: str) -> messages.CacheChanged | None:
        """Such engines keep one cache for all and free the oldest by themselves."""
        logger.debug("conversation %s: the engine frees its cache by itself", conversation_id)
        return None

    def configure(self, sharing: messages.Sharing) -> CacheStats | None:
        """The server bounds how many sequences such an engine is given; the rest is its own."""
        self.sharing = sharing
        return None

    def advance(self) -> messages.StepDone | None:
        """Report what the engine has to tell.

        Raises:
            EngineCrashedError: its own processes have ended; this one is of no use any more.
        """
        try:
            report = self._advance()
        except EngineCrashedError:
            raise
        except EngineError as error:
            return self._lose_all(error)
        if not (report.chunks or report.started or report.failed or report.batch_size):
            return None
        ended = {chunk.sequence_id for chunk in report.chunks if chunk.finish_reason is not None}
        self._unfinished_ids -= ended | {sequence_id for sequence_id, _ in report.failed}
        return messages.StepDone(
            chunks=tuple(report.chunks),
            started=tuple(report.started),
            failures=as_failures(report.failed),
            phase=_phase_of(num_started=len(report.started), batch_size=report.batch_size),
            batch_size=report.batch_size,
            duration_s=report.duration_s,
            num_running=report.num_running,
            num_waiting=report.num_waiting,
            kv_use_ratio=report.kv_use_ratio,
        )

    def stop(self) -> None:
        """Stop the engine."""
        self._engine.stop()

    def _advance(self) -> StreamReport:
        if self._engine.wake_fd is not None or not self._engine.has_work:
            # It computes by itself, or not at all.
            return self._engine.advance()
        with self._lease.held():
            return self._engine.advance()

    def _lose_all(self, error: EngineError) -> messages.StepDone:
        lost, self._unfinished_ids = self._unfinished_ids, set()
        self._engine.abort(lost)
        return messages.StepDone(
            chunks=(),
            started=(),
            failures=as_failures([(sequence_id, error) for sequence_id in sorted(lost)]),
            phase="decode",
            batch_size=len(lost),
            duration_s=0.0,
            num_running=0,
            num_waiting=0,
        )


def make_driver(
    engine: StepBackend | StreamEngine | EmbeddingBackend,
    facts: EngineFacts,
    spec: messages.WorkerSpec,
) -> Driver:
    """Put the right driver around a started engine."""
    lease = CoreLease(spec.lease_directory, spec.cores)
    if isinstance(engine, EmbeddingBackend):
        return EmbeddingDriver(engine, spec, lease)
    if isinstance(engine, StepBackend):
        return StepDriver(engine, facts, spec, lease)
    return StreamDriver(engine, lease, spec.sharing)


def _phase_of(*, num_started: int, batch_size: int) -> str:
    if num_started == 0:
        return "decode"
    return "prefill" if num_started >= batch_size else "mixed"

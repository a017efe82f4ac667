"""Both ends of the process line for embedding: the worker's driver and the server's open call."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from mm_orch.batching.embedding import EmbeddingBatcher, Text
from mm_orch.core.generation import SequenceStarted
from mm_orch.workers import messages
from mm_orch.workers.failures import as_failures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mm_orch.core.errors import MuAIError
    from mm_orch.kv_cache.cache import CacheStats
    from mm_orch.optimization.engines.embedding import EmbeddingBackend
    from mm_orch.workers.lease import CoreLease

logger = logging.getLogger(__name__)

# As they cross the line: little-endian on every machine.
VECTOR_DTYPE = "<f4"


class EmbeddingDriver:
    """An embedding backend under our batcher; implements workers.driving.Driver."""

    def __init__(
        self, backend: EmbeddingBackend, spec: messages.WorkerSpec, lease: CoreLease
    ) -> None:
        self._backend = backend
        self._lease = lease
        self.sharing = spec.sharing
        self._batcher = EmbeddingBatcher(backend, spec.batcher, time.monotonic)

    @property
    def wait_s(self) -> float | None:
        """See Driver."""
        return self._batcher.wait_s

    @property
    def wake_fd(self) -> int | None:
        """The batcher says by itself when a batch is due."""
        return None

    def embed(self, orders: Iterable[messages.TextOrder]) -> None:
        """Queue the texts of one request."""
        self._batcher.add(Text(order.text_id, order.token_ids) for order in orders)

    def abort(self, text_ids: Iterable[str]) -> messages.CacheChanged | None:
        """Drop texts."""
        self._batcher.abort(text_ids)
        return None

    def release_conversation(self, conversation_id: str) -> messages.CacheChanged | None:
        """Embedding keeps nothing of what it has computed."""
        logger.debug("conversation %s: an embedding model has no cache", conversation_id)
        return None

    def configure(self, sharing: messages.Sharing) -> CacheStats | None:
        """Fit the batcher: there is no cache; see Driver."""
        self._batcher.configure(sharing.batcher)
        self.sharing = sharing
        return None

    def advance(self) -> messages.StepDone | None:
        """Embed one batch where there is work."""
        if self._batcher.wait_s is None:
            return None
        with self._lease.held():
            report = self._batcher.step()
        return messages.StepDone(
            chunks=(),
            started=tuple(
                SequenceStarted(sequence_id=text_id, waited_s=waited_s)
                for text_id, waited_s in report.started
            ),
            failures=as_failures(report.failed),
            vectors=tuple(
                messages.TextVector(text_id, vector.astype(VECTOR_DTYPE).tobytes())
                for text_id, vector in report.vectors
            ),
            phase="embed",
            batch_size=report.batch_size,
            duration_s=report.duration_s,
            num_running=0,
            num_waiting=self._batcher.num_waiting,
        )

    def stop(self) -> None:
        """Stop the backend."""
        self._backend.stop()


class VectorStream:
    """The server's end of a few texts that a worker is embedding.

    Args:
        text_ids: in the order in which their vectors are wanted.
        abort: tells the worker to drop texts.
        on_start: told when the first of them is computed.
    """

    def __init__(
        self,
        text_ids: Sequence[str],
        abort: Callable[[tuple[str, ...]], None],
        on_start: Callable[[SequenceStarted], None],
    ) -> None:
        self._text_ids = text_ids
        self._abort = abort
        self._on_start = on_start
        self._open_ids = set(text_ids)
        self._vectors: dict[str, bytes] = {}
        self._error: MuAIError | None = None
        self._has_ended = asyncio.Event()

    def put(self, update: SequenceStarted | messages.TextVector) -> None:
        """Take news of one text from the worker."""
        if isinstance(update, SequenceStarted):
            self._on_start(update)
            return
        self._vectors[update.text_id] = update.vector
        self._open_ids.discard(update.text_id)
        if not self._open_ids:
            self._has_ended.set()

    def fail(self, error: MuAIError) -> None:
        """End the call: one text that is lost loses it, since the answer is whole or none."""
        self._error = self._error or error
        self._has_ended.set()

    async def collect(self) -> list[bytes]:
        """Wait for all vectors; each is its components in VECTOR_DTYPE.

        Raises:
            MuAIError: a text was lost, mostly by the engine.
        """
        await self._has_ended.wait()
        if self._error is not None:
            raise self._error
        return [self._vectors[text_id] for text_id in self._text_ids]

    def close(self) -> None:
        """Abort what has not ended; safe at any time."""
        if self._open_ids:
            self._abort(tuple(self._open_ids))
            self._open_ids = set()

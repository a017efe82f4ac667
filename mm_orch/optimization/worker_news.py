"""States what becomes of the workers of one replica of a model."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mm_orch.core.events import (
    CircuitChanged,
    EngineFellBack,
    ErrorOccurred,
    ModelLoaded,
    WorkerRestarted,
    WorkerStateChanged,
)

if TYPE_CHECKING:
    from mm_orch.core.events import Observer
    from mm_orch.core.fallback import Fallback
    from mm_orch.optimization.circuit import CircuitState
    from mm_orch.workers.worker import Worker

logger = logging.getLogger(__name__)


class WorkerNews:
    """Tells an observer, and the log, of one replica of a model."""

    def __init__(self, model: str, replica: int, observer: Observer) -> None:
        self._model = model
        self._replica = replica
        self._observer = observer

    def tell_loaded(self, worker: Worker, duration_s: float) -> None:
        """State that a worker was ready so long after it was launched."""
        logger.info("%s is ready with %s after %.1f s", self._model, worker.engine, duration_s)
        self._observer.observe(
            ModelLoaded(
                model=self._model,
                engine=worker.engine,
                duration_s=duration_s,
                kv_block_tokens=worker.facts.kv_block_tokens,
                num_kv_blocks=worker.facts.num_kv_blocks,
            )
        )

    def tell_restart(self, engine: str) -> None:
        """State that a worker which had died is started again."""
        self._observer.observe(WorkerRestarted(model=self._model, engine=engine))

    def tell_state(self, engine: str, *, is_up: bool, reason: str = "") -> None:
        """State that a worker has come up or gone down."""
        self._observer.observe(
            WorkerStateChanged(
                model=self._model, engine=engine, is_up=is_up, reason=reason, replica=self._replica
            )
        )

    def tell_circuit(self, engine: str, state: CircuitState) -> None:
        """State how an engine's circuit is."""
        self._observer.observe(
            CircuitChanged(
                model=self._model, engine=engine, state=state.value, replica=self._replica
            )
        )

    def tell_fallback(self, fallback: Fallback) -> None:
        """State that another engine runs than the preferred one."""
        wanted, engine = fallback.wanted, fallback.engine
        reason = fallback.reason.partition("\n")[0]
        logger.warning("%s runs on %s in place of %s: %s", self._model, engine, wanted, reason)
        self._observer.observe(
            EngineFellBack(model=self._model, from_engine=wanted, to_engine=engine, reason=reason)
        )

    def tell_error(self, error_type: type[Exception]) -> None:
        """State that a worker has failed."""
        self._observer.observe(ErrorOccurred(component="worker", error_type=error_type.__name__))

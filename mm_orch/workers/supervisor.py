"""Keeps one model's worker running: starts it, watches it, restarts it with back-off."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from mm_orch.core.errors import ModelUnavailableError, MuAIError
from mm_orch.core.events import (
    ErrorOccurred,
    ModelLoaded,
    WorkerRestarted,
    WorkerStateChanged,
)
from mm_orch.workers.backoff import HEALTHY_AFTER_S, restart_delay_s
from mm_orch.workers.phase import ModelPhase
from mm_orch.workers.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import zmq.asyncio

    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Observer
    from mm_orch.workers.messages import WorkerSpec

logger = logging.getLogger(__name__)


class WorkerSupervisor:
    """Owner of one model's worker process.

    States: loading -> ready -> restarting -> ready ...; a start that fails is *failed* until the
    back-off is over, then tried again.
    """

    def __init__(
        self,
        model: str,
        prepare: Callable[[], Awaitable[WorkerSpec]],
        *,
        context: zmq.asyncio.Context,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self.model = model
        self.phase = ModelPhase.LOADING
        self.detail = "starting"
        self.engine: str | None = None
        self.worker: Worker | None = None
        self.num_restarts = 0
        self._prepare = prepare
        self._context = context
        self._observer = observer
        self._clock = clock
        self._num_failures = 0
        self._retry_at_s = 0.0
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Supervise until cancelled; then stop the worker."""
        try:
            await self._keep_running()
        finally:
            # Who waits for the worker now would wait for ever.
            self._change(ModelPhase.FAILED, "it is being stopped")

    async def _keep_running(self) -> None:
        while True:
            worker = await self._start()
            if worker is not None:
                ready_at_s = self._clock()
                how = await self._watch(worker)
                if self._clock() - ready_at_s >= HEALTHY_AFTER_S:
                    self._num_failures = 0
                self._report_down(worker.engine, how)
            self._num_failures += 1
            delay_s = restart_delay_s(self._num_failures)
            self._retry_at_s = self._clock() + delay_s
            await asyncio.sleep(delay_s)
            self.num_restarts += 1
            if self.engine is not None:
                self._observer.observe(WorkerRestarted(model=self.model, engine=self.engine))

    async def acquire(self) -> Worker:
        """Return the running worker, waiting while it loads or restarts.

        Raises:
            ModelUnavailableError: the last start failed; says why and when it is tried again.
        """
        while True:
            if self.worker is not None:
                return self.worker
            if self.phase is ModelPhase.FAILED:
                raise ModelUnavailableError(
                    f"Model {self.model} cannot be served: {self.detail}",
                    retry_after_s=max(1.0, self._retry_at_s - self._clock()),
                )
            await self._changed.wait()

    async def _watch(self, worker: Worker) -> str:
        """Wait for the worker's end; return how it ended. Whatever happens, it has ended then."""
        try:
            return await worker.watch()
        except Exception as error:  # boundary: one model's trouble never ends the server
            logger.exception("%s: the worker cannot be followed any more", self.model)
            return f"it could not be followed any more: {_say(error)}"
        finally:
            self.worker = None
            await worker.stop()

    async def _start(self) -> Worker | None:
        begin_s = self._clock()
        worker = None
        try:
            spec = await self._prepare()
            self.engine = spec.engine
            self._change(self.phase, f"loading with {spec.engine}")
            worker = await Worker.launch(spec, context=self._context, observer=self._observer)
            await worker.wait_until_ready()
        except Exception as error:  # boundary: one model's trouble never ends the server
            is_foreseen = isinstance(error, MuAIError | OSError)
            logger.error("%s cannot start: %s", self.model, error, exc_info=not is_foreseen)  # noqa: TRY400 - told to people
            self._observer.observe(
                ErrorOccurred(component="worker", error_type=type(error).__name__)
            )
            self._change(ModelPhase.FAILED, str(error) if is_foreseen else _say(error))
            if worker is not None:
                await worker.stop()
            return None
        except BaseException:
            if worker is not None:
                await worker.stop()
            raise
        duration_s = self._clock() - begin_s
        logger.info("%s is ready with %s after %.1f s", self.model, worker.engine, duration_s)
        self.worker = worker
        self._change(ModelPhase.READY, "")
        self._observer.observe(
            WorkerStateChanged(model=self.model, engine=worker.engine, is_up=True)
        )
        self._observer.observe(
            ModelLoaded(model=self.model, engine=worker.engine, duration_s=duration_s)
        )
        return worker

    def _report_down(self, engine: str, how: str) -> None:
        logger.error("%s: the %s worker ended, %s", self.model, engine, how)
        self._change(ModelPhase.RESTARTING, f"the {engine} worker ended, {how.splitlines()[0]}")
        self._observer.observe(
            WorkerStateChanged(model=self.model, engine=engine, is_up=False, reason=how)
        )
        self._observer.observe(ErrorOccurred(component="worker", error_type="EngineCrashedError"))

    def _change(self, phase: ModelPhase, detail: str) -> None:
        self.phase = phase
        self.detail = detail
        # Wakes everyone who waits now; later waiters get a fresh event.
        self._changed.set()
        self._changed = asyncio.Event()


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"

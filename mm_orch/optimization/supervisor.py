"""Keeps one model answering: starts a worker, watches it, replaces it, climbs back when it can.

start the first engine that may  ->  serve  ->  it ended: open its circuit, start the next
                                      |
                                      +-> a better engine's back-off is over: start it beside,
                                          give it the new requests, let the old one finish;
                                          the old one ended before that: start the next as well
its place was lost, or there is none: no circuit opens, the same engine asks again for one
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from mm_orch.core.errors import DeviceLostError, ModelUnavailableError, MuAIError
from mm_orch.core.fallback import Fallback
from mm_orch.core.place_errors import OF_PLACE
from mm_orch.optimization.backoff import restart_delay_s
from mm_orch.optimization.beside import StartBeside
from mm_orch.optimization.lacking_place import PAUSE_S, LackingPlaces
from mm_orch.optimization.news import News
from mm_orch.optimization.telling import log_failure, say
from mm_orch.optimization.worker_news import WorkerNews
from mm_orch.workers.phase import ModelPhase
from mm_orch.workers.watchdog import Watched, watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Observer
    from mm_orch.models.stored import StoredModel
    from mm_orch.optimization.engines.contract import Availability
    from mm_orch.optimization.ladder import Candidate, EngineLadder
    from mm_orch.workers.worker import Worker

logger = logging.getLogger(__name__)


class ModelSupervisor:
    """Owner of one model's workers: one that serves, and those that finish what they have.

    States: loading -> ready -> restarting -> ready ...; where no engine could be started, *failed*
    until the first back-off is over, then tried again.

    Args:
        model: its configured name.
        ladder: the engines in order, with their circuits.
        probe: says which of them can run here.
        ensure_files: fetches the model's files where they are missing.
        launch: starts the process of an engine's worker, in its place.
        find_fault: says which failure of a device a worker that has ended died of; empty of none.
        watchdog_timeout_s: a worker with work that reports nothing for so long is killed.
        bring_up_to_date: tells a worker what has changed since it was launched.
        replica: the number of its workers among those of the model.
        news: told of every change; those of several replicas may be told together.
    """

    def __init__(
        self,
        model: str,
        ladder: EngineLadder,
        *,
        probe: Callable[[StoredModel], Awaitable[list[Availability]]],
        ensure_files: Callable[[], Awaitable[StoredModel]],
        launch: Callable[[str, StoredModel], Awaitable[Worker]],
        find_fault: Callable[[Worker], Awaitable[str]],
        observer: Observer,
        clock: Clock,
        watchdog_timeout_s: float,
        bring_up_to_date: Callable[[Worker], None] = lambda _: None,
        replica: int = 0,
        news: News | None = None,
    ) -> None:
        self.model = model
        self.ladder = ladder
        self.phase = ModelPhase.LOADING
        self.detail = "starting"
        self.engine: str | None = None
        self.worker: Worker | None = None
        self.fallback: Fallback | None = None
        self.num_restarts = 0
        # When the worker that serves became ready, and how long that took.
        self.ready_at_s = 0.0
        self.load_s = 0.0
        self._probe = probe
        self._ensure_files = ensure_files
        self._launch = launch
        self._find_fault = find_fault
        self._facts = WorkerNews(model, replica, observer)
        self._clock = clock
        self._watchdog_timeout_s = watchdog_timeout_s
        self._bring_up_to_date = bring_up_to_date
        self._retry_at_s = 0.0
        self._num_failures = 0
        self._was_started = False
        self._start_failure = ""
        self._lacking = LackingPlaces(model, clock)
        self._news = news or News()
        # Set when the engine that serves is no longer trusted, though its worker lives.
        self._is_distrusted = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._beside = StartBeside(self._tasks)

    async def run(self) -> None:
        """Supervise until cancelled; then stop the workers."""
        try:
            async with self._tasks:
                await self._keep_running()
        finally:
            self.tell_stopped()
            await self._beside.close()

    async def acquire(self) -> Worker:
        """Return the worker that takes requests, waiting while it loads or restarts.

        Raises:
            ModelUnavailableError: no engine could be started; says why and when it is tried again.
        """
        while True:
            worker = self.find_worker()
            if worker is not None:
                return worker
            self.check_hope()
            await self._news.wait()

    def find_worker(self) -> Worker | None:
        """Return the worker that takes requests, where there is one now."""
        worker, is_trusted = self.worker, not self._is_distrusted.is_set()
        return worker if worker is not None and not worker.is_dead and is_trusted else None

    def check_hope(self) -> None:
        """Raise ModelUnavailableError where it is not worth it to wait for a worker."""
        if self.phase is ModelPhase.FAILED:
            message = f"Model {self.model} cannot be served: {self.detail}"
            wait_s = max(1.0, self._retry_at_s - self._clock())
            raise ModelUnavailableError(message, retry_after_s=wait_s)

    def note(self, detail: str) -> None:
        """Say what is done for the model before its first engine is started."""
        self._change(self.phase, detail)

    def tell_stopped(self) -> None:
        """Refuse who waits for the worker: else they would wait for ever."""
        self._change(ModelPhase.FAILED, "it is being stopped")

    def count_step_fault(self, engine: str, reason: str) -> None:
        """Note a request that an engine failed though its worker lives on."""
        if self.ladder.circuit_by_engine[engine].count_step_fault(reason):
            self._report_circuit(engine)
            if self.engine == engine:
                self._is_distrusted.set()

    def record_success(self, engine: str) -> None:
        """Note a request that an engine has answered."""
        circuit = self.ladder.circuit_by_engine[engine]
        circuit.record_success()
        if circuit.reason and self.worker is not None and self.worker.engine == engine:
            # It was distrusted, there was no other, and it works.
            circuit.close()
            self._report_circuit(engine)

    async def _keep_running(self) -> None:
        worker = await self._start_first()
        while True:
            successor = await self._serve(worker)
            worker = successor or await self._start_first()

    async def _start_first(self) -> Worker:
        """Start the best engine there is; go on until one runs."""
        while True:
            worker = self._beside.take() or await self._start_next()
            if worker is not None:
                self._num_failures = 0
                self._install(worker)
                return worker

    async def _start_next(self) -> Worker | None:
        """Start the best engine that may be; None where that fails, or something else comes first.

        One that is being started already is left alone: the next need not wait for it.
        """
        try:
            found = await self._probe(await self._ensure_files())
            probes = [one for one in found if one.engine != self._beside.engine]
            if self._beside.engine is not None and not any(one.is_available for one in probes):
                await self._beside.wait()
                return None
            candidate = self.ladder.choose(probes)
        except Exception as error:  # noqa: BLE001 - boundary: no model's trouble ends the server
            log_failure(f"{self.model} cannot be started", error)
            self._num_failures += 1
            await self._wait_failed(say(error), restart_delay_s(self._num_failures))
            return None
        if candidate.wait_s > 0:
            await self._wait_for(candidate)
            return None
        self.engine = engine = candidate.engine
        lack = self._lacking.find_reason(engine)
        self._change(self.phase, f"loading with {engine}{f', again: {lack}' if lack else ''}")
        if self._was_started and not lack:
            self.num_restarts += 1
            self._facts.tell_restart(engine)
        worker = await self._start(engine)
        if worker is None:
            self._start_failure = self.ladder.circuit_by_engine[engine].reason
            await self._wait_for_place(engine)
        return worker

    async def _wait_for(self, candidate: Candidate) -> None:
        """Wait for the back-off of the engine that may be started first."""
        if self._start_failure and self._beside.engine is None:
            await self._wait_failed(self._start_failure, candidate.wait_s)
        else:
            # A worker that served has ended, or another starts: that is worth waiting for.
            await self._beside.wait(timeout_s=candidate.wait_s)

    async def _wait_for_place(self, engine: str) -> None:
        """Wait before the engine asks for a place again, where that is what it lacks."""
        if reason := self._lacking.find_reason(engine):
            self._retry_at_s = self._clock() + PAUSE_S
            is_hopeless = self._lacking.is_hopeless(engine)
            self._change(ModelPhase.FAILED if is_hopeless else self.phase, reason)
            await self._beside.wait(timeout_s=PAUSE_S)

    async def _wait_failed(self, reason: str, delay_s: float) -> None:
        self._retry_at_s = self._clock() + delay_s
        self._change(ModelPhase.FAILED, reason)
        await asyncio.sleep(delay_s)

    async def _serve(self, worker: Worker) -> Worker | None:
        """Follow the worker until it has ended or another has taken its place; return that one."""
        ready_at_s = self._clock()
        watching = self._tasks.create_task(self._watch(worker), name=f"watch {worker.engine}")
        while True:
            await self._wait_for_change(worker.engine, watching)
            successor = self._beside.take()
            if watching.done():
                lived_s = self._clock() - ready_at_s
                self._report_down(worker.engine, watching.result(), lived_s=lived_s)
            if successor is not None:
                self._install(successor)
                if not watching.done():
                    self._tasks.create_task(self._retire(worker), name="retire a worker")
                return successor
            if watching.done():
                return None
            if self._beside.engine is None:
                await self._begin_successor(worker)

    async def _wait_for_change(self, engine: str, watching: asyncio.Task[Watched]) -> None:
        """Wait until the worker ends, is distrusted, or a better engine is there or may be."""
        if self._beside.engine is not None:
            await self._beside.wait(watching)
            return
        better = self.ladder.find_better(engine)
        wait_s = max(better.wait_s, self._lacking.find_wait_s(better.engine)) if better else None
        distrust = asyncio.create_task(self._is_distrusted.wait())
        try:
            await asyncio.wait(
                {watching, distrust},
                timeout=wait_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            distrust.cancel()

    async def _begin_successor(self, worker: Worker) -> None:
        """Start the engine that should take over from a worker that still lives, if one should."""
        if self.worker is None:
            # Its successor could not start: whatever is held against it, it is what there is.
            self.worker = worker
            self._bring_up_to_date(worker)
            self._change(self.phase, self.detail)
        candidate = await self._find_successor(worker.engine)
        if candidate is not None:
            self._beside.begin(candidate.engine, self._start(candidate.engine))

    async def _find_successor(self, engine: str) -> Candidate | None:
        """Return the engine that should take over from a worker that still lives."""
        candidate = self.ladder.find_better(engine)
        if self._is_distrusted.is_set():
            with contextlib.suppress(MuAIError, OSError):
                candidate = self.ladder.choose(await self._probe(await self._ensure_files()))
            self._is_distrusted.clear()
            if candidate is not None and candidate.wait_s == 0 and candidate.engine != engine:
                # Nobody is given to it until its successor is there.
                self.worker = None
            else:
                self._change(self.phase, self.detail)
        if candidate is None or candidate.wait_s > 0 or candidate.engine == engine:
            return None
        return candidate

    async def _retire(self, worker: Worker) -> None:
        """Let a worker finish what it has; it gets nothing new."""
        try:
            await worker.wait_until_idle()
        finally:
            await worker.stop()
        self._facts.tell_state(worker.engine, is_up=False, reason="another took its place")

    async def _watch(self, worker: Worker) -> Watched:
        """Wait for the worker's end; whatever happens, it has ended then."""
        try:
            watched = await watch(worker, timeout_s=self._watchdog_timeout_s)
            return await self._explain(worker, watched)
        except Exception as error:  # boundary: one model's trouble never ends the server
            logger.exception("%s: the worker cannot be followed any more", self.model)
            return Watched(f"it could not be followed any more: {say(error)}")
        finally:
            if self.worker is worker:
                self.worker = None
            await worker.stop()

    async def _explain(self, worker: Worker, watched: Watched) -> Watched:
        """Say so where a worker has ended because what it computed on has failed."""
        if watched.error_class is DeviceLostError:
            return watched
        fault = await self._find_fault(worker)
        return Watched(f"{fault}; {watched.how}", DeviceLostError) if fault else watched

    async def _start(self, engine: str) -> Worker | None:
        """Start a worker and wait until it is ready; the engine's failure opens its circuit."""
        begin_s = self._clock()
        worker = None
        self._was_started = True
        if self.ladder.circuit_by_engine[engine].reason:
            self._report_circuit(engine)
        try:
            worker = await self._launch(engine, await self._ensure_files())
            await worker.wait_until_ready()
        except Exception as error:  # noqa: BLE001 - boundary: no model's trouble ends the server
            self._facts.tell_error(type(error))
            if not self._lacking.take(engine, error, begun_s=begin_s):
                log_failure(f"{self.model}: {engine} cannot start", error)
                if worker is None or worker.end_class is not DeviceLostError:
                    self._trip(engine, say(error), cost_s=self._clock() - begin_s)
            if worker is not None:
                await worker.stop()
            return None
        except BaseException:
            if worker is not None:
                await worker.stop()
            raise
        duration_s = self._clock() - begin_s
        self.ready_at_s, self.load_s = self._clock(), duration_s
        self._lacking.forget(engine)
        self._facts.tell_loaded(worker, duration_s)
        return worker

    def _install(self, worker: Worker) -> None:
        """Give new requests to this worker."""
        was_tripped = bool(self.ladder.circuit_by_engine[worker.engine].reason)
        self.ladder.circuit_by_engine[worker.engine].close()
        if was_tripped:
            self._report_circuit(worker.engine)
        self.worker, self.engine = worker, worker.engine
        self._bring_up_to_date(worker)
        self._start_failure = ""
        self._is_distrusted.clear()
        self._note_fallback(worker.engine)
        self._change(ModelPhase.READY, "")
        self._facts.tell_state(worker.engine, is_up=True)

    def _note_fallback(self, engine: str) -> None:
        told = self.ladder.describe_fallback(engine)
        if told is None:
            if self.fallback is not None:
                logger.info("%s runs on %s again", self.model, engine)
            self.fallback = None
            return
        wanted, reason = told
        self.fallback = Fallback(wanted, engine, reason)
        self._facts.tell_fallback(self.fallback)

    def _report_down(self, engine: str, watched: Watched, *, lived_s: float) -> None:
        logger.error("%s: the %s worker ended, %s", self.model, engine, watched.how)
        first_line = watched.how.splitlines()[0]
        self._change(ModelPhase.RESTARTING, f"the {engine} worker ended, {first_line}")
        self._facts.tell_state(engine, is_up=False, reason=watched.how)
        self._facts.tell_error(watched.error_class)
        # The engine has done nothing: it is the first to be started in another place.
        if not issubclass(watched.error_class, OF_PLACE):
            self._trip(engine, f"its worker ended, {watched.how}", lived_s=lived_s)

    def _trip(self, engine: str, reason: str, *, lived_s: float = 0.0, cost_s: float = 0.0) -> None:
        self.ladder.circuit_by_engine[engine].trip(reason, lived_s=lived_s, cost_s=cost_s)
        self._report_circuit(engine)

    def _report_circuit(self, engine: str) -> None:
        self._facts.tell_circuit(engine, self.ladder.circuit_by_engine[engine].state)

    def _change(self, phase: ModelPhase, detail: str) -> None:
        self.phase = phase
        self.detail = detail
        self._news.tell()

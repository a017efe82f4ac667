"""Runs vLLM's AsyncLLM on an event loop in a thread of its own, and reports its steps.

vLLM offers one queue and one waiting task a request. Waking a task for every token of every
request costs more than the token is worth, so nobody waits on the queues: vLLM tells its metrics
when a step is done, and there all queues are emptied at once.

    worker's thread   submit, abort  ->  loop's thread   AsyncLLM.add_request, .abort
                      report         <-                  StepListener.record, a step at a time
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm.exceptions import VLLMClientError
from vllm.inputs.engine import tokens_input
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.metrics.loggers import PrometheusStatLogger

from mm_orch.core.errors import (
    EngineCrashedError,
    EngineError,
    InvalidValueError,
    RequestError,
    clause,
)
from mm_orch.core.generation import SequenceStarted, TokenChunk
from mm_orch.optimization.engines.contract import StreamReport
from mm_orch.optimization.engines.vllm.translation import translate_output, translate_params

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from mm_orch.core.errors import MuAIError
    from mm_orch.models.grammar import GrammarCompiler
    from mm_orch.optimization.engines.contract import Sequence

# Then vLLM kills its processes, which have nothing to save. The server gives a worker 5 s to leave.
_SHUTDOWN_S = 1.0
_JOIN_S = 10.0


@dataclass(slots=True, eq=False)
class Followed:
    """A sequence that vLLM works on; ``outputs`` is its queue there, once it is taken."""

    sequence: Sequence
    arrival_s: float
    outputs: Any = None
    has_started: bool = False
    is_dropped: bool = False


class BackgroundLLM:
    """Owner of one AsyncLLM. Everything public is called from one thread, which is not the loop's.

    Args:
        configuration: the VllmConfig.
        grammars: for guided sequences.
        report: takes what a step brought; called on the loop's thread.
        lose: takes the error when vLLM has died; called on the loop's thread.
    """

    def __init__(
        self,
        configuration: Any,
        *,
        grammars: GrammarCompiler,
        report: Callable[[StreamReport], None],
        lose: Callable[[EngineError], None],
    ) -> None:
        self._configuration = configuration
        self._grammars = grammars
        self._report = report
        self._lose = lose
        self._loop = _make_loop()
        self._leaving = asyncio.Event()
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="vllm-loop", daemon=True)
        self._llm: Any = None
        self._followed: dict[str, Followed] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_step_s = 0.0

    def start(self) -> None:
        """Load the model; returns when vLLM is ready, and raises what vLLM raises."""
        self._thread.start()
        try:
            self._ready.result()
        except BaseException:
            self._thread.join(_JOIN_S)
            raise

    def submit(self, sequence: Sequence) -> None:
        """Hand a sequence over."""
        followed = Followed(sequence, time.monotonic())
        self._loop.call_soon_threadsafe(self._take, followed)

    def abort(self, sequence_ids: Iterable[str]) -> None:
        """Have vLLM drop these sequences."""
        self._loop.call_soon_threadsafe(self._drop, list(sequence_ids))

    def stop(self) -> None:
        """End vLLM and its processes, then the thread."""
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop has just closed by itself
                self._loop.call_soon_threadsafe(self._leaving.set)
            self._thread.join(_JOIN_S)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._live())

    async def _live(self) -> None:
        # The processes die with the thread that starts them (see lifeline), so it is this one.
        try:
            self._llm = AsyncLLM.from_vllm_config(
                self._configuration,
                stat_loggers=[make_step_listener(self._take_step)],
                disable_log_stats=True,
            )
            # Asked once here, it is known when the first request comes.
            await self._llm.get_supported_tasks()
            self._llm.output_handler.add_done_callback(self._die)
        except BaseException as error:  # noqa: BLE001 - raised by start, in the thread that asked
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        await self._leaving.wait()
        self._llm.shutdown(timeout=_SHUTDOWN_S)

    def _die(self, _: asyncio.Task[None]) -> None:
        self._end("vLLM's engine process has ended.", None)

    def _end(self, how: str, cause: BaseException | None) -> None:
        if self._leaving.is_set():
            return
        self._followed.clear()
        error = EngineCrashedError(
            how, remedy="The log of the worker says why; it is being restarted."
        )
        error.__cause__ = cause
        self._lose(error)

    def _start_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finish_task)

    def _finish_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Nobody foresaw it. Sequences that nothing answers any more would hang for ever.
            self._end(
                f"vLLM failed outside of a step: {type(error).__name__}: {clause(error)}.", error
            )

    def _take(self, followed: Followed) -> None:
        if not self._followed:
            self._last_step_s = time.monotonic()
        self._followed[followed.sequence.sequence_id] = followed
        self._start_task(self._add(followed))

    async def _add(self, followed: Followed) -> None:
        sequence = followed.sequence
        try:
            outputs = await self._llm.add_request(
                sequence.sequence_id,
                tokens_input(list(sequence.token_ids)),
                translate_params(sequence, self._grammars),
            )
        except EngineDeadError:
            # All sequences are lost, which is told once.
            return
        except RequestError as error:
            self._refuse(followed, error)
            return
        except (VLLMClientError, ValueError) as error:
            self._refuse(followed, InvalidValueError(f"vLLM refuses the request: {error}"))
            return
        followed.outputs = outputs
        if followed.is_dropped:
            await self._llm.abort(outputs.request_id, internal=True)
        elif outputs.output is not None:
            # It was so quick that the step is over, and it may have been its last.
            self._take_step(None)

    def _refuse(self, followed: Followed, error: RequestError) -> None:
        if not followed.is_dropped:
            del self._followed[followed.sequence.sequence_id]
            self._report(StreamReport(failed=[(followed.sequence.sequence_id, error)]))

    def _drop(self, sequence_ids: list[str]) -> None:
        taken = []
        for sequence_id in sequence_ids:
            followed = self._followed.pop(sequence_id, None)
            if followed is None:
                continue
            followed.is_dropped = True
            if followed.outputs is not None:
                taken.append(followed.outputs.request_id)
        if taken and not self._llm.errored:
            self._start_task(self._llm.abort(taken, internal=True))

    def _take_step(self, stats: Any) -> None:
        """Empty all queues; ``stats`` are vLLM's SchedulerStats where it has them."""
        chunks: list[TokenChunk] = []
        started: list[SequenceStarted] = []
        failed: list[tuple[str, MuAIError]] = []
        for sequence_id, followed in list(self._followed.items()):
            output = followed.outputs and followed.outputs.get_nowait()
            if output is None:
                continue
            if not followed.has_started:
                followed.has_started = True
                started.append(_describe_start(followed, output))
            try:
                chunks.append(translate_output(followed.sequence, output.outputs[0]))
            except EngineError as error:
                failed.append((sequence_id, error))
            if output.finished:
                del self._followed[sequence_id]
        now_s = time.monotonic()
        duration_s, self._last_step_s = now_s - self._last_step_s, now_s
        if not (chunks or failed):
            return
        num_waiting = stats.num_waiting_reqs + stats.num_skipped_waiting_reqs if stats else 0
        self._report(
            StreamReport(
                chunks=chunks,
                started=started,
                failed=failed,
                batch_size=len(chunks),
                duration_s=duration_s,
                num_running=stats.num_running_reqs if stats else len(self._followed),
                num_waiting=num_waiting,
                kv_use_ratio=stats.kv_cache_usage if stats else None,
            )
        )


def _make_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _describe_start(followed: Followed, output: Any) -> SequenceStarted:
    waited_s = time.monotonic() - followed.arrival_s
    if output.metrics is not None and output.metrics.scheduled_ts:
        # Less the time of the first step.
        waited_s = max(0.0, output.metrics.scheduled_ts - output.metrics.queued_ts)
    return SequenceStarted(
        sequence_id=followed.sequence.sequence_id,
        waited_s=waited_s,
        num_cached_tokens=output.num_cached_tokens or 0,
    )


def make_step_listener(take_step: Callable[[Any], None]) -> type:
    """Return a class for vLLM to tell of its steps: ``take_step`` gets its SchedulerStats."""

    class StepListener(PrometheusStatLogger):  # type: ignore[misc]  # vLLM is not installed here
        """Stands where vLLM keeps its Prometheus series, which nobody would read."""

        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def record(self, scheduler_stats: Any, *_: Any, **__: Any) -> None:
            take_step(scheduler_stats)

        def log_engine_initialized(self) -> None:
            pass

        def record_sleep_state(self, *_: Any, **__: Any) -> None:
            pass

        def record_admission_rejection(self, *_: Any, **__: Any) -> None:
            pass

    return StepListener

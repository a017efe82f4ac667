"""How models, engines, operations and workflows did in the last minutes, for whoever asks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from mm_orch.core.events import (
    CacheUsed,
    FirstTokenProduced,
    LoadChanged,
    ModelLoaded,
    ModelUnloaded,
    RequestFinished,
    RequestStarted,
    StepCompleted,
    TokenGap,
    WorkerStateChanged,
)
from mm_orch.core.figures import UNKNOWN, ModelFigures, OperationFigures, WorkflowFigures
from mm_orch.core.workflow_events import WorkflowFinished
from mm_orch.monitoring.request_window import EngineSlot, MergingWindow, RequestSlot, outcome_of
from mm_orch.monitoring.window import WINDOW_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Event
    from mm_orch.monitoring.request_window import Outcome

DIRECT = "direct"
"""What counts as the workflow of requests that go straight to a model."""

# Both are closed sets already; this is for the day when one is not.
_MAX_ENGINES = 64
_MAX_OPERATIONS = 16
_MAX_WORKFLOWS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Requests of a model, now."""

    num_running: int = 0
    num_waiting: int = 0


class PerformanceMonitor:
    """An observer with a sliding window for each model on each engine, operation and workflow.

    A request that goes straight to a model counts for the workflow ``direct``; of a workflow its
    runs are counted, and not what each of their steps asks of models. Memory is bounded: models are
    the configured ones, any other name is counted as unknown, and a window holds sketches. Reading
    costs about a millisecond a window; observing costs microseconds.

    Args:
        models: the configured names.
        window_s: what the figures cover, once the monitor is as old.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        models: Iterable[str],
        *,
        window_s: float = WINDOW_S,
        clock: Clock = time.monotonic,
    ) -> None:
        self.window_s = window_s
        self._models = frozenset(models)
        begin_s = clock()
        # All begin with the monitor: a model that comes later had no requests before.
        self._new_engine = partial(
            MergingWindow[EngineSlot], EngineSlot, clock=clock, window_s=window_s, begin_s=begin_s
        )
        self._new_window = partial(
            MergingWindow[RequestSlot], RequestSlot, clock=clock, window_s=window_s, begin_s=begin_s
        )
        self._by_engine: dict[tuple[str, str], MergingWindow[EngineSlot]] = {}
        self._by_operation: dict[str, MergingWindow[RequestSlot]] = {}
        self._by_workflow = {DIRECT: self._new_window()}
        self._load_by_model: dict[str, Load] = {}
        self._kv_use_by_engine: dict[tuple[str, str], float] = {}

    def observe(self, event: Event) -> None:
        """Take one fact."""
        # In the order of how often they come: a step of a batch gives a gap for each sequence.
        match event:
            case TokenGap():
                slot = self._engine_window(event.model, event.engine).slot_now()
                slot.inter_token.add(event.seconds_per_token, event.num_tokens)
                slot.num_streamed_tokens += event.num_tokens
            case StepCompleted():
                slot = self._engine_window(event.model, event.engine).slot_now()
                slot.step_duration.add(event.duration_s)
                slot.num_batched += event.batch_size
            case LoadChanged():
                self._load_by_model[self._known(event.model)] = Load(
                    num_running=event.num_running, num_waiting=event.num_waiting
                )
            case RequestStarted() | FirstTokenProduced() | RequestFinished():
                self._observe_request(event)
            case WorkflowFinished():
                self._observe_run(event)
            case CacheUsed() | ModelLoaded() | WorkerStateChanged() | ModelUnloaded():
                self._observe_worker(event)
            case _:
                pass

    def models(self) -> tuple[ModelFigures, ...]:
        """Return the figures of each model on each engine that it is known to have used."""
        return tuple(self._describe(key) for key in sorted(self._by_engine))

    def outcomes(self) -> dict[tuple[str, str], Outcome]:
        """Return how the window's requests ended, by configured model and by engine."""
        return {
            key: outcome_of(window.slots())
            for key, window in sorted(self._by_engine.items())
            if key[0] in self._models
        }

    def throughput_rps(self, model: str, over_s: float) -> float:
        """Return how many requests of a model, over all its engines, succeeded per second.

        Args:
            model: a configured name.
            over_s: of so many last seconds, up to whole slots.
        """
        return sum(
            sum(slot.num_succeeded for slot in window.slots(over_s)) / window.span_s(over_s)
            for (name, _), window in self._by_engine.items()
            if name == model
        )

    def operations(self) -> tuple[OperationFigures, ...]:
        """Return the figures of each operation that has been asked for."""
        return tuple(
            OperationFigures(operation=name, **_request_figures(window))
            for name, window in sorted(self._by_operation.items())
        )

    def workflows(self) -> tuple[WorkflowFigures, ...]:
        """Return the figures of each workflow."""
        return tuple(
            WorkflowFigures(workflow=name, **_request_figures(window))
            for name, window in sorted(self._by_workflow.items())
        )

    def load(self, model: str) -> Load:
        """Return how many requests of a model run and wait, over all its engines."""
        return self._load_by_model.get(model, Load())

    def _observe_request(
        self, event: RequestStarted | FirstTokenProduced | RequestFinished
    ) -> None:
        slot = self._engine_window(event.model, event.engine).slot_now()
        match event:
            case RequestStarted():
                slot.queue_wait.add(event.queue_wait_s)
            case FirstTokenProduced():
                slot.ttft.add(event.ttft_s)
                slot.num_streamed_tokens += 1
            case RequestFinished():
                has_engine = event.engine != UNKNOWN
                slot.count_end(event, has_engine=has_engine)
                windows = [self._operation_window(event.operation)]
                # The run that it is a part of counts itself when it ends.
                windows += [] if event.workflow else [self._by_workflow[DIRECT]]
                for window in windows:
                    _count_whole(window.slot_now(), event, has_engine=has_engine)

    def _observe_run(self, event: WorkflowFinished) -> None:
        slot = _window_of(self._by_workflow, event.workflow, self._new_window, _MAX_WORKFLOWS)
        slot.slot_now().count_end(event, has_engine=True)
        if event.ttft_s is not None:
            slot.slot_now().ttft.add(event.ttft_s)

    def _observe_worker(
        self, event: CacheUsed | ModelLoaded | WorkerStateChanged | ModelUnloaded
    ) -> None:
        key = self._known(event.model), event.engine or UNKNOWN
        match event:
            case CacheUsed():
                self._engine_window(*key)
                self._kv_use_by_engine[key] = event.use_ratio
            case ModelLoaded() | WorkerStateChanged(is_up=True):
                self._engine_window(*key)
            case WorkerStateChanged() | ModelUnloaded():
                # Its memory is given back: what it held says nothing any more.
                self._kv_use_by_engine.pop(key, None)

    def _engine_window(self, model: str, engine: str) -> MergingWindow[EngineSlot]:
        window = self._by_engine.get((model, engine))
        return window if window is not None else self._start_engine(model, engine)

    def _start_engine(self, model: str, engine: str) -> MergingWindow[EngineSlot]:
        engines = {name for _, name in self._by_engine}
        if engine not in engines and len(engines) >= _MAX_ENGINES:
            engine = UNKNOWN
        return self._by_engine.setdefault((self._known(model), engine), self._new_engine())

    def _operation_window(self, operation: str) -> MergingWindow[RequestSlot]:
        return _window_of(self._by_operation, operation, self._new_window, _MAX_OPERATIONS)

    def _known(self, model: str) -> str:
        return model if model in self._models else UNKNOWN

    def _describe(self, key: tuple[str, str]) -> ModelFigures:
        window = self._by_engine[key]
        slot, span_s = window.merged(), window.span_s()
        figures = msgspec.structs.asdict(slot.describe(span_s))
        figures["throughput_tokens_per_second"] = slot.num_streamed_tokens / span_s
        model, engine = key
        load = self.load(model)
        return ModelFigures(
            model=model,
            engine=engine,
            inter_token_latency=slot.inter_token.describe(),
            step_duration=slot.step_duration.describe(),
            batch_size_mean=slot.batch_size_mean,
            requests_running=load.num_running,
            requests_waiting=load.num_waiting,
            kv_use_ratio=self._kv_use_by_engine.get(key),
            **figures,
        )


def _window_of(
    known: dict[str, MergingWindow[RequestSlot]],
    name: str,
    new_window: Callable[[], MergingWindow[RequestSlot]],
    max_names: int,
) -> MergingWindow[RequestSlot]:
    if name not in known and len(known) >= max_names:
        name = UNKNOWN
    return known.setdefault(name, new_window())


def _count_whole(slot: RequestSlot, event: RequestFinished, *, has_engine: bool) -> None:
    """Count all that is known of a request at its end, where no earlier event was counted."""
    slot.count_end(event, has_engine=has_engine)
    if event.queue_wait_s is not None:
        slot.queue_wait.add(event.queue_wait_s)
    if event.ttft_s is not None:
        slot.ttft.add(event.ttft_s)


def _request_figures(window: MergingWindow[RequestSlot]) -> dict[str, Any]:
    return msgspec.structs.asdict(window.merged().describe(window.span_s()))

"""Turns the path's events into Prometheus series, and renders them."""

from __future__ import annotations

import time
import typing
from typing import TYPE_CHECKING

import prometheus_client
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as open_metrics

from mm_orch.config.keys import dotted, keys_by_path
from mm_orch.core.configuration import ChangeSource, ConfigurationChanged
from mm_orch.core.errors import (
    DeadlineTooSoonError,
    DrainingError,
    ModelUnavailableError,
    QueueFullError,
    RateLimitError,
)
from mm_orch.core.events import (
    AlertChanged,
    CacheUsed,
    CircuitChanged,
    EngineFellBack,
    ErrorOccurred,
    FirstTokenProduced,
    HttpRequestFinished,
    LoadChanged,
    ModelLoaded,
    ModelUnloaded,
    RequestFinished,
    RequestStarted,
    RequestStatus,
    ResourcesRead,
    StepCompleted,
    TokenGap,
    WorkerRestarted,
    WorkerStateChanged,
)
from mm_orch.core.fleet_events import EndpointChanged, EndpointChosen, FleetEvent
from mm_orch.core.mind_events import FeedbackTaken, MindMoved
from mm_orch.core.placement_events import (
    ReplicaLeft,
    RequestFailedOver,
    RequestPlaced,
    RequestRedirected,
    WorkerMoved,
    WorkerPlaced,
)
from mm_orch.core.scaling_events import ReplicasScaled, ScaledLoadRead
from mm_orch.core.tuning_events import GuardStepTold, TunedValuesRead, TuningDecided
from mm_orch.core.workflow_events import WorkflowFinished, WorkflowRouted, WorkflowStepFinished
from mm_orch.monitoring.alerts.alert import ALERT_TYPES, Severity
from mm_orch.monitoring.cache_series import CacheSeries
from mm_orch.monitoring.children import Children
from mm_orch.monitoring.fleet_series import FleetSeries
from mm_orch.monitoring.http_series import HttpSeries
from mm_orch.monitoring.mind_series import MindSeries
from mm_orch.monitoring.replica_series import ReplicaSeries
from mm_orch.monitoring.resource_series import ResourceSeries
from mm_orch.monitoring.scaling_series import ScalingSeries
from mm_orch.monitoring.series import Series
from mm_orch.monitoring.sliding_rate import SlidingRate
from mm_orch.monitoring.tuning_series import TuningSeries
from mm_orch.monitoring.vllm_names import VllmNames
from mm_orch.monitoring.workflow_series import WorkflowSeries

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Event
    from mm_orch.core.mind_events import MindEvent
    from mm_orch.core.placement_events import PlacementEvent
    from mm_orch.core.scaling_events import ScalingEvent
    from mm_orch.core.trace import TraceContext
    from mm_orch.core.tuning_events import TuningEvent
    from mm_orch.core.workflow_events import WorkflowEvent

UNKNOWN = "unknown"
"""Label of a model that is not configured, and of what was refused before it had an engine."""

_OWN_REFUSALS = {
    error.__name__: error.code
    for error in (
        DeadlineTooSoonError,
        DrainingError,
        ModelUnavailableError,
        QueueFullError,
        RateLimitError,
    )
}
_PHASES = ("prefill", "decode", "mixed", "embed")
_LIFECYCLE = ("loaded", "down", "restarting", "unloaded")
_CIRCUIT_STATES = ("closed", "half_open", "open")


class PrometheusObserver:
    """An observer with a registry of its own.

    Every series of a model is there, at zero, from the moment its engine is known: ``rate()``
    sees the first request only if it has seen the zero before it.

    Args:
        models: the configured names; any other name is counted as unknown.
        workflows: those that are installed; the same.
        has_vllm_names: state a few series under vLLM's names as well.
        clock: for the gauges per second.
    """

    def __init__(
        self,
        models: Iterable[str],
        *,
        workflows: Iterable[str] = (),
        has_vllm_names: bool = False,
        clock: Clock = time.monotonic,
    ) -> None:
        # Each would double a series with the time of its creation, which nothing here reads.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped library
        self._series = series = Series()
        self._gaps = Children(series.inter_token_latency)
        self._steps = Children(series.step_duration)
        self._batches = Children(series.batch_size)
        self._running = Children(series.running)
        self._waiting = Children(series.waiting)
        self._models = frozenset(models)
        registry = self._series.registry
        self._cache = CacheSeries(registry, self._models, clock)
        self._replicas = ReplicaSeries(registry)
        self._scaling = ScalingSeries(registry)
        self._http = HttpSeries(series, clock)
        self._resources = ResourceSeries(registry, clock)
        self._fleets = FleetSeries(registry)
        self._workflows = WorkflowSeries(registry, workflows)
        self._mind = MindSeries(registry)
        self._vllm_names = VllmNames(registry, self._models) if has_vllm_names else None
        self._tuning: TuningSeries | None = None
        self._started: set[tuple[str, str]] = set()
        self._request_rates = {name: SlidingRate(clock) for name in self._models}
        self._token_rates = {name: SlidingRate(clock) for name in self._models}
        for name in (*self._models, UNKNOWN):
            self._start_requests(name, UNKNOWN)
            self._start_refusals(name)
        for name in self._models:
            self._start_model(name)
        for path, key in keys_by_path().items():
            if key.facts.is_live:
                for source in typing.get_args(ChangeSource):
                    self._series.config_changes.labels(dotted(path), source)
        for alert_type in ALERT_TYPES:
            for severity in Severity:
                self._series.alerts.labels(alert_type, severity.value)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the page and its content type: OpenMetrics for those who take it, else text.

        Only OpenMetrics has exemplars, which lead from a bucket to the trace of a request in it.

        Args:
            accept: the reader's header of this name.
        """
        if "application/openmetrics-text" in accept:
            page = open_metrics.generate_latest(self._series.registry)  # type: ignore[no-untyped-call]  # untyped library
            return page, open_metrics.CONTENT_TYPE_LATEST
        return generate_latest(self._series.registry), CONTENT_TYPE_PLAIN_0_0_4

    def observe(self, event: Event) -> None:
        """Take one fact."""
        match event:
            case TokenGap() | StepCompleted() | RequestStarted() | FirstTokenProduced():
                self._observe_progress(event)
            case RequestFinished():
                self._observe_end(event)
            case LoadChanged(model=model, num_running=num_running, num_waiting=num_waiting):
                self._running.of(self._known(model)).set(num_running)
                self._waiting.of(self._known(model)).set(num_waiting)
            case WorkerStateChanged() | WorkerRestarted() | ModelLoaded():
                self._observe_worker(event)
            case ModelUnloaded():
                self._observe_unload(event)
            case (
                CircuitChanged()
                | EndpointChanged()
                | EndpointChosen()
                | EngineFellBack()
                | RequestRedirected()
                | RequestFailedOver()
                | RequestPlaced()
                | ReplicaLeft()
                | ReplicasScaled()
                | ScaledLoadRead()
                | WorkerPlaced()
                | WorkerMoved()
            ):
                self._observe_fallback(event)
            case HttpRequestFinished():
                self._http.observe(event)
            case (
                CacheUsed()
                | ResourcesRead()
                | AlertChanged()
                | ErrorOccurred()
                | ConfigurationChanged()
                | TuningDecided()
                | GuardStepTold()
                | TunedValuesRead()
                | WorkflowRouted()
                | WorkflowStepFinished()
                | WorkflowFinished()
                | MindMoved()
                | FeedbackTaken()
            ):
                self._observe_side(event)
        if self._vllm_names is not None:
            self._vllm_names.observe(event)

    def _observe_progress(
        self, event: TokenGap | StepCompleted | RequestStarted | FirstTokenProduced
    ) -> None:
        series = self._series
        model = self._known(event.model)
        labels = (model, event.engine)
        match event:
            case TokenGap(seconds_per_token=seconds, num_tokens=num_tokens):
                gaps = self._gaps.of(*labels)
                for _ in range(num_tokens):
                    gaps.observe(seconds)
            case StepCompleted(phase=phase, duration_s=duration_s, batch_size=batch_size):
                self._steps.of(*labels, phase).observe(duration_s)
                self._batches.of(model).observe(batch_size)
                self._replicas.observe_step(event)
            case RequestStarted(queue_wait_s=queue_wait_s):
                series.queue_wait.labels(*labels).observe(queue_wait_s, _exemplar(event.trace))
            case FirstTokenProduced(ttft_s=ttft_s):
                first_token = series.time_to_first_token.labels(*labels)
                first_token.observe(ttft_s, _exemplar(event.trace))

    def _observe_end(self, event: RequestFinished) -> None:
        series = self._series
        model = self._known(event.model)
        labels = (model, event.engine)
        series.requests.labels(*labels, event.status.value).inc()
        if event.status is RequestStatus.REJECTED and event.error_type in _OWN_REFUSALS:
            series.refused.labels(model, _OWN_REFUSALS[event.error_type]).inc()
        if event.status is RequestStatus.ERROR and event.error_type is not None:
            series.errors.labels("request", event.error_type).inc()
        if event.engine == UNKNOWN:
            # Refused at the door: its few microseconds say nothing of how long answers take.
            return
        series.latency.labels(*labels).observe(event.total_s, _exemplar(event.trace))
        series.prompt_tokens.labels(*labels).inc(event.num_prompt_tokens)
        series.generation_tokens.labels(*labels).inc(event.num_generated_tokens)
        series.cached_prompt_tokens.labels(*labels).inc(event.num_cached_tokens)
        if model != UNKNOWN:
            self._cache.observe_end(event)
            self._token_rates[model].add(event.num_generated_tokens)
            if event.status is RequestStatus.SUCCESS:
                self._request_rates[model].add(1)

    def _observe_worker(self, event: WorkerStateChanged | WorkerRestarted | ModelLoaded) -> None:
        series = self._series
        model = self._known(event.model)
        self._start_engine(model, event.engine)
        match event:
            case WorkerStateChanged(is_up=is_up):
                is_up_somewhere = self._replicas.observe_state(event)
                series.engine_up.labels(model, event.engine).set(1 if is_up_somewhere else 0)
                if not is_up:
                    series.lifecycle_events.labels(model, "down").inc()
            case WorkerRestarted():
                series.engine_restarts.labels(model, event.engine).inc()
                series.lifecycle_events.labels(model, "restarting").inc()
            case ModelLoaded(duration_s=duration_s):
                series.model_load.labels(model).observe(duration_s)
                series.lifecycle_events.labels(model, "loaded").inc()

    def _observe_unload(self, event: ModelUnloaded) -> None:
        model = self._known(event.model)
        self._series.lifecycle_events.labels(model, "unloaded").inc()
        for started_model, engine in self._started:
            if started_model == model:
                # Loaded again, it begins with trust in every engine.
                self._series.circuit_state.labels(model, engine).set(0)
        if event.engine is not None:
            self._series.engine_up.labels(model, event.engine).set(0)

    def _observe_fallback(
        self, event: CircuitChanged | FleetEvent | EngineFellBack | PlacementEvent | ScalingEvent
    ) -> None:
        series = self._series
        model = self._known(event.model)
        match event:
            case CircuitChanged(engine=engine, state=state):
                self._start_engine(model, engine)
                worst = self._replicas.observe_circuit(event, _CIRCUIT_STATES.index(state))
                series.circuit_state.labels(model, engine).set(worst)
            case EngineFellBack() | RequestRedirected():
                series.fallbacks.labels(model, event.from_engine, event.to_engine).inc()
            case RequestFailedOver():
                series.failovers.labels(model).inc()
            case ReplicasScaled() | ScaledLoadRead():
                self._scaling.observe(event)
            case EndpointChanged() | EndpointChosen():
                self._fleets.observe(model, event)
            case RequestPlaced():
                self._replicas.observe_placed(event)
            case WorkerPlaced() | WorkerMoved():
                self._replicas.places.observe(event)
            case ReplicaLeft():
                for engine in self._replicas.observe_left(event):
                    series.engine_up.labels(model, engine).set(0)

    def _observe_side(
        self,
        event: CacheUsed
        | ResourcesRead
        | AlertChanged
        | ErrorOccurred
        | ConfigurationChanged
        | TuningEvent
        | WorkflowEvent
        | MindEvent,
    ) -> None:
        match event:
            case ConfigurationChanged(path=path, source=source):
                self._series.config_changes.labels(path, source).inc()
            case TuningDecided() | GuardStepTold() | TunedValuesRead():
                if self._tuning is None:
                    self._tuning = TuningSeries(self._series.registry)
                self._tuning.observe(event)
            case WorkflowRouted() | WorkflowStepFinished() | WorkflowFinished():
                self._workflows.observe(event)
            case MindMoved() | FeedbackTaken():
                self._mind.observe(event)
            case ErrorOccurred(component=component, error_type=error_type):
                self._series.errors.labels(component, error_type).inc()
            case CacheUsed(model=model) if model in self._models:
                self._cache.observe_use(event, self._replicas.observe_use(event))
            case ResourcesRead():
                self._resources.observe(event)
            case AlertChanged(is_firing=True, is_new=True):
                self._series.alerts.labels(event.alert_type, event.severity).inc()
            case _:
                # A stand-in's memory, or an alert that was counted when it began.
                pass

    def _known(self, model: str) -> str:
        return model if model in self._models else UNKNOWN

    def _start_model(self, model: str) -> None:
        series = self._series
        plain = series.running, series.waiting, series.batch_size, series.model_load
        for one in (*plain, series.failovers):
            one.labels(model)
        for event_type in _LIFECYCLE:
            series.lifecycle_events.labels(model, event_type)
        series.requests_per_second.labels(model).set_function(self._request_rates[model].per_second)
        series.tokens_per_second.labels(model).set_function(self._token_rates[model].per_second)

    def _start_refusals(self, model: str) -> None:
        for reason in _OWN_REFUSALS.values():
            self._series.refused.labels(model, reason)

    def _start_requests(self, model: str, engine: str) -> None:
        for status in RequestStatus:
            self._series.requests.labels(model, engine, status.value)

    def _start_engine(self, model: str, engine: str) -> None:
        if (model, engine) in self._started:
            return
        self._started.add((model, engine))
        series = self._series
        self._start_requests(model, engine)
        for one in (
            series.latency,
            series.time_to_first_token,
            series.inter_token_latency,
            series.queue_wait,
            series.prompt_tokens,
            series.generation_tokens,
            series.cached_prompt_tokens,
            series.engine_up,
            series.engine_restarts,
            series.circuit_state,
        ):
            one.labels(model, engine)
        for phase in _PHASES:
            series.step_duration.labels(model, engine, phase)


def _exemplar(trace: TraceContext | None) -> dict[str, str] | None:
    # One that is not recorded leads nowhere.
    return {"trace_id": trace.trace_hex} if trace is not None and trace.is_sampled else None

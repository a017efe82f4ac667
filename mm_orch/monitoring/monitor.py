"""Combines the parts of monitoring: gives the path its observers, runs the timers, answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mm_orch.core.errors import NotServedError
from mm_orch.core.events import ErrorOccurred
from mm_orch.monitoring.alert_figures import AlertFigures
from mm_orch.monitoring.figures import FiguresReader
from mm_orch.monitoring.history import INTERVAL_S, History
from mm_orch.monitoring.performance import PerformanceMonitor
from mm_orch.monitoring.recent import RecentRequests
from mm_orch.monitoring.request_log import RequestLogObserver
from mm_orch.monitoring.resources import HostReader, ResourceSampler
from mm_orch.monitoring.trends import ResourceTrends

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from mm_orch.config.schema.monitoring import MonitoringSettings
    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Observer
    from mm_orch.core.figures import CacheFigures, Figures
    from mm_orch.core.observations import AlertsReport, FiringAlert, RequestsReport
    from mm_orch.core.trace import TraceContext
    from mm_orch.gpus.watch import GpuWatch
    from mm_orch.monitoring.alerts.watch import AlertWatch
    from mm_orch.monitoring.prometheus import PrometheusObserver
    from mm_orch.monitoring.tracing.tracer import Tracer

COMPONENT = "monitoring"

logger = logging.getLogger(__name__)


class Monitor:
    """Everything that watches the path; implements core.observations.Observations.

    What the settings switch off is not imported.

    Args:
        settings: the section ``monitoring``.
        models: the configured names.
        workflows: those that are installed.
        observer: is told of what monitoring itself finds; :attr:`observers` are among those who
            hear it.
        reserved_gpu_ratio: share of a GPU's memory that an engine takes at its start.
        gpus: reads them.
        clock: the monotonic clock of the events.
        now: the wall clock, in seconds since 1970.
    """

    def __init__(
        self,
        settings: MonitoringSettings,
        models: tuple[str, ...],
        *,
        workflows: tuple[str, ...] = (),
        observer: Observer,
        reserved_gpu_ratio: float = 0.0,
        gpus: GpuWatch,
        clock: Clock = time.monotonic,
        now: Clock = time.time,
    ) -> None:
        self._settings = settings
        self._observer = observer
        self._gpus = gpus
        window_s = settings.anomaly.window_seconds
        self._performance = PerformanceMonitor(models, window_s=window_s, clock=clock)
        self._history = History(models, clock=clock, wall_clock=now)
        self._trends = ResourceTrends(window_s=_trend_window_s(settings), clock=clock)
        self._figures = FiguresReader(self._performance, self._trends, self._history, clock=clock)
        self._recent = RecentRequests(now)
        self._alert_figures = AlertFigures(
            models,
            performance=self._performance,
            trends=self._trends,
            reserved_gpu_ratio=reserved_gpu_ratio,
            clock=clock,
        )
        self._watch = self._make_watch(clock) if settings.anomaly.enabled else None
        self._prometheus = _make_prometheus(settings, models, workflows, clock)
        self._tracer = _make_tracer(settings, self._tell_from_thread)
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def observers(self) -> tuple[Observer, ...]:
        """Whom the path tells of its events."""
        optional = (self._prometheus, self._tracer)
        return (
            RequestLogObserver(),
            self._performance,
            self._history,
            self._trends,
            self._recent,
            self._alert_figures,
            *(one for one in optional if one is not None),
        )

    @property
    def render_metrics(self) -> Callable[[str], tuple[bytes, str]] | None:
        """Gives the metrics page as the header Accept asks; None with metrics off."""
        return self._prometheus.render if self._prometheus else None

    @property
    def start_trace(self) -> Callable[[TraceContext | None], TraceContext] | None:
        """Gives an exchange its place in its caller's trace, or in a new one; None without."""
        return self._tracer.start if self._tracer else None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the timers; on leaving, what is still to be sent has a bounded time."""
        self._loop = asyncio.get_running_loop()
        tasks = [
            asyncio.create_task(self._keep_going(name, work), name=name)
            for name, work in self._list_work()
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._tracer is not None:
                await asyncio.to_thread(self._tracer.close)
            self._loop = None

    def metrics(self, after: float | None = None) -> Figures:
        """See Observations."""
        return self._figures.read(after)

    def alerts(self) -> AlertsReport:
        """See Observations."""
        if self._watch is None:
            raise NotServedError(
                "Nothing watches for trouble: monitoring.anomaly.enabled is false.",
                remedy="Set it to true and start the server again.",
            )
        from mm_orch.monitoring.alerts.assembly import describe

        return describe(self._watch)

    def firing(self) -> tuple[FiringAlert, ...] | None:
        """Return the alerts that fire now; None with alerts off."""
        return self.alerts().firing if self._watch is not None else None

    def caches(self) -> dict[tuple[str, str], CacheFigures]:
        """Return what is known of KV memory, by model and engine."""
        return self._figures.caches()

    def requests(self, limit: int) -> RequestsReport:
        """See Observations."""
        return self._recent.newest(limit)

    def _list_work(self) -> list[tuple[str, Coroutine[None, None, None]]]:
        work = [("sample resources", self._sample()), ("draw charts", self._draw())]
        if self._watch is not None:
            work.append(("watch for alerts", self._watch.run()))
        return work

    async def _keep_going(self, name: str, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception as error:  # boundary: monitoring never fails the server
            logger.exception("monitoring: the task '%s' has failed", name)
            self._observer.observe(
                ErrorOccurred(component=COMPONENT, error_type=type(error).__name__)
            )

    async def _sample(self) -> None:
        await ResourceSampler(
            HostReader(),
            self._gpus,
            self._observer,
            interval_s=self._settings.collection_interval_seconds,
        ).run()

    async def _draw(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            self._history.tick()

    def _tell_from_thread(self, event: ErrorOccurred) -> None:
        # Observers live on the loop, which may end while this thread goes on.
        loop = self._loop
        if loop is not None:
            # It may have closed just now: nobody counts any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._observer.observe, event)

    def _make_watch(self, clock: Clock) -> AlertWatch:
        from mm_orch.monitoring.alerts.assembly import make_watch

        return make_watch(
            self._settings.anomaly,
            self._alert_figures.read,
            service=self._settings.tracing.service_name,
            observer=self._observer,
            clock=clock,
        )


def _trend_window_s(settings: MonitoringSettings) -> float:
    # A window without a reading would say nothing of memory, and of memory that is full neither.
    return max(settings.anomaly.window_seconds, 2 * settings.collection_interval_seconds)


def _make_prometheus(
    settings: MonitoringSettings, models: tuple[str, ...], workflows: tuple[str, ...], clock: Clock
) -> PrometheusObserver | None:
    if not settings.prometheus.enabled:
        return None
    from mm_orch.monitoring.prometheus import PrometheusObserver

    return PrometheusObserver(
        models,
        workflows=workflows,
        has_vllm_names=settings.prometheus.compat_vllm_names,
        clock=clock,
    )


def _make_tracer(
    settings: MonitoringSettings, report: Callable[[ErrorOccurred], None]
) -> Tracer | None:
    tracing = settings.tracing
    if not tracing.enabled or tracing.endpoint is None:
        return None
    from mm_orch.monitoring.tracing.tracer import open_tracer

    return open_tracer(
        tracing.endpoint,
        sample_rate=tracing.sample_rate,
        service_name=tracing.service_name,
        export_timeout_s=tracing.export_timeout_ms / 1000,
        report=report,
    )

"""Makes a watch of the settings, and tells what it knows as the API answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.observations import AlertsReport, FiringAlert, PastAlert
from mm_orch.monitoring.alerts.baseline import Baselines, BaselineSettings
from mm_orch.monitoring.alerts.book import AlertBook
from mm_orch.monitoring.alerts.delivery import Delivery
from mm_orch.monitoring.alerts.destinations import DestinationSettings, make_destinations
from mm_orch.monitoring.alerts.thresholds import Thresholds
from mm_orch.monitoring.alerts.watch import AlertWatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.config.schema.monitoring import AnomalySettings
    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Observer
    from mm_orch.monitoring.alerts.alert import Notice
    from mm_orch.monitoring.alerts.destinations import Destination
    from mm_orch.monitoring.alerts.figures import Figures


def make_watch(
    settings: AnomalySettings,
    read_figures: Callable[[], Figures],
    *,
    service: str,
    observer: Observer,
    clock: Clock,
) -> AlertWatch:
    """Return a watch that is ready to run.

    Args:
        settings: the section ``monitoring.anomaly``.
        read_figures: returns the window's figures, at once.
        service: how this server is called where alerts go.
        observer: is told of each change.
        clock: monotonic seconds.
    """
    thresholds = Thresholds(
        latency_threshold_ms=settings.latency_threshold_ms,
        error_rate_threshold=settings.error_rate_threshold,
        memory_threshold_percent=settings.memory_threshold_percent,
        throughput_threshold_rps=settings.throughput_threshold_rps,
        min_samples=settings.min_samples,
        window_s=settings.window_seconds,
    )
    destinations = open_destinations(settings, service)
    baselines = Baselines(BaselineSettings(min_samples=settings.min_samples))
    return AlertWatch(
        read_figures,
        thresholds=thresholds,
        baselines=baselines if settings.adaptive else None,
        book=AlertBook(rate_limit_s=settings.alert_rate_limit_seconds),
        delivery=Delivery(destinations, observer=observer, clock=clock),
        interval_s=settings.evaluation_interval_seconds,
        observer=observer,
        clock=clock,
    )


def open_destinations(settings: AnomalySettings, service: str) -> list[Destination]:
    """Return the configured destinations; each is to be closed.

    Args:
        settings: the section ``monitoring.anomaly``.
        service: how this server is called where alerts go.
    """
    return make_destinations(
        DestinationSettings(
            names=settings.alert_destinations,
            webhook_url=settings.webhook_url,
            alertmanager_url=settings.alertmanager_url,
            service=service,
            interval_s=settings.evaluation_interval_seconds,
        )
    )


def describe(watch: AlertWatch) -> AlertsReport:
    """Return what fires, what did, and how the destinations do."""
    report = watch.report()
    return AlertsReport(
        firing=tuple(_describe_firing(notice) for notice in report.firing),
        history=tuple(_describe_past(notice) for notice in report.history),
        destinations=report.destinations,
    )


def _describe_firing(notice: Notice) -> FiringAlert:
    return FiringAlert(
        alert_type=notice.identity.alert_type,
        severity=notice.severity.value,
        model=notice.identity.model,
        engine=notice.identity.engine,
        message=notice.message,
        since=notice.starts_at.isoformat(timespec="seconds"),
        value=notice.value,
        limit=notice.limit,
    )


def _describe_past(notice: Notice) -> PastAlert:
    return PastAlert(
        alert_type=notice.identity.alert_type,
        severity=notice.severity.value,
        model=notice.identity.model,
        engine=notice.identity.engine,
        message=notice.message,
        status=notice.status.value,
        at=notice.at.isoformat(timespec="seconds"),
    )

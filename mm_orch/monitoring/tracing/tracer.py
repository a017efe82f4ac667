"""Puts tracing together: begins traces, and turns what is told of them into spans."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import Resource

from mm_orch.core.version import __version__
from mm_orch.monitoring.tracing import conventions as names
from mm_orch.monitoring.tracing.epoch import Epoch
from mm_orch.monitoring.tracing.exporting import ExportThread, make_exporter
from mm_orch.monitoring.tracing.sampling import Sampler
from mm_orch.monitoring.tracing.spans import SpanMaker, TracedEvent
from mm_orch.monitoring.tracing.trouble import TroubleLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

    from mm_orch.core.events import ErrorOccurred, Event
    from mm_orch.core.trace import TraceContext


class Tracer:
    """An observer that exports the spans of requests whose trace is sampled.

    Args:
        exporter: takes the spans; may block.
        sample_rate: share of the traces begun here that is recorded, 0 to 1.
        service_name: of this server.
        report: told of each lost event, in any thread.
        destination: where the spans go, for people.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        sample_rate: float,
        service_name: str,
        report: Callable[[ErrorOccurred], None],
        destination: str,
    ) -> None:
        self._sampler = Sampler(sample_rate)
        self._epoch = Epoch()
        self._maker = SpanMaker(
            Resource.create({names.SERVICE_NAME: service_name, names.SERVICE_VERSION: __version__}),
            # Another source than the event loop's: it is used in the thread.
            draw_span_id=Sampler(sample_rate).draw_span_id,
            ns_of=self._epoch.ns_of,
        )
        self._exports = ExportThread(
            exporter, self._make_spans, report=report, trouble=TroubleLog(destination)
        )

    def start(self, parent: TraceContext | None) -> TraceContext:
        """Return the place of a new span below its caller's, or in a trace of its own."""
        return self._sampler.start(parent)

    def observe(self, event: Event) -> None:
        """Take one fact; only ends of sampled exchanges and requests cost anything."""
        if isinstance(event, TracedEvent):
            trace = event.trace
            if trace is not None and trace.is_sampled:
                self._exports.put(event)

    def close(self) -> None:
        """Send what is left; blocks for 2 s at most."""
        self._exports.close()

    def _make_spans(self, event: TracedEvent) -> list[ReadableSpan]:
        self._epoch.correct()
        return self._maker.make(event)


def open_tracer(
    endpoint: str,
    *,
    sample_rate: float,
    service_name: str,
    export_timeout_s: float,
    report: Callable[[ErrorOccurred], None],
) -> Tracer:
    """Make a tracer that sends its spans to a collector.

    Args:
        endpoint: URL of the collector; see :func:`make_exporter`.
        sample_rate: share of the traces begun here that is recorded, 0 to 1.
        service_name: of this server.
        export_timeout_s: longest export.
        report: told of each lost event, in any thread.
    """
    parts = urlsplit(endpoint)
    return Tracer(
        make_exporter(endpoint, export_timeout_s),
        sample_rate=sample_rate,
        service_name=service_name,
        report=report,
        # Without what an address may hold of secrets.
        destination=f"{parts.scheme}://{parts.hostname}:{parts.port or ''}".rstrip(":"),
    )

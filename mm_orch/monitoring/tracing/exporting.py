"""Sends spans to a collector from a thread of its own, whatever the collector does.

Not by the SDK's BatchSpanProcessor: that logs in its caller's thread, and its end may take 30 s.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry.sdk.trace.export import SpanExportResult

from mm_orch.core.errors import QueueFullError
from mm_orch.core.events import ErrorOccurred, RequestFinished
from mm_orch.monitoring.tracing.trouble import LastWords, TroubleLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

    from mm_orch.monitoring.tracing.spans import TracedEvent

_GRPC_PORT = 4317
_HTTP_PATH = "/v1/traces"
_MAX_QUEUED = 2048
# Prompts and answers wait in the queue whole, where they are kept at all.
_MAX_QUEUED_CHARS = 2**24
# A request has two events and about six spans.
_MAX_BATCH = 64
_COLLECT_S = 1.0
_FLUSH_S = 1.5
_BREAK_OFF_S = 0.4


class SpanExportError(Exception):
    """A collector has not taken spans."""


def make_exporter(endpoint: str, timeout_s: float) -> SpanExporter:
    """Return what speaks to a collector: gRPC to port 4317, else HTTP.

    Headers, certificates and compression are those of OpenTelemetry's own environment variables
    (``OTEL_EXPORTER_OTLP_HEADERS`` and its like).

    Args:
        endpoint: URL of the collector; for HTTP ``/v1/traces`` is added where it has no path.
        timeout_s: longest export, with all its retries.
    """
    parts = urlsplit(endpoint)
    if parts.port == _GRPC_PORT:
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc

        is_insecure = parts.scheme != "https"
        return grpc.OTLPSpanExporter(parts.netloc, insecure=is_insecure, timeout=timeout_s)
    from opentelemetry.exporter.otlp.proto.http import trace_exporter as http

    path = parts.path if parts.path.strip("/") else _HTTP_PATH
    return http.OTLPSpanExporter(parts._replace(path=path).geturl(), timeout=timeout_s)


class ExportThread:
    """A bounded queue of events, and the thread that makes spans of them and sends these away.

    Args:
        exporter: takes the spans; may block.
        make_spans: called in the thread.
        report: told of each lost event, whatever lost it, in any thread.
        trouble: writes the log of them.
        max_queued: events; one more is dropped, as is what is too much text.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        make_spans: Callable[[TracedEvent], list[ReadableSpan]],
        *,
        report: Callable[[ErrorOccurred], None],
        trouble: TroubleLog,
        max_queued: int = _MAX_QUEUED,
    ) -> None:
        self.num_lost = 0
        self._exporter = exporter
        self._make_spans = make_spans
        self._report = report
        self._trouble = trouble
        self._max_queued = max_queued
        self._queue: deque[TracedEvent] = deque()
        # Each is written by one thread alone.
        self._num_chars_in = self._num_chars_out = 0
        self._has_some, self._hurry = threading.Event(), threading.Event()
        self._is_closing = self._is_given_up = False
        self._words = LastWords()
        self._words.listen()
        self._thread = threading.Thread(target=self._run, name="export-spans", daemon=True)
        self._thread.start()

    def put(self, event: TracedEvent) -> None:
        """Take an event, or count it as lost; returns at once."""
        if self._is_closing:
            return
        num_chars = self._num_chars_in + _count_chars(event)
        is_full = num_chars - self._num_chars_out > _MAX_QUEUED_CHARS
        if is_full or len(self._queue) >= self._max_queued:
            self._lose(1, QueueFullError)
            return
        self._num_chars_in = num_chars
        self._queue.append(event)
        if not self._has_some.is_set():
            self._has_some.set()
        if len(self._queue) >= _MAX_BATCH and not self._hurry.is_set():
            self._hurry.set()

    def close(self) -> None:
        """Send what is left, if that takes no longer than 2 s; blocks so long."""
        self._is_closing = True
        self._hurry.set()
        self._has_some.set()
        self._thread.join(_FLUSH_S)
        self._is_given_up = True
        # Ends a call over gRPC; one over HTTP ends with the process.
        self._exporter.shutdown()
        self._thread.join(_BREAK_OFF_S)
        self._words.stop_listening()

    def _run(self) -> None:
        while not self._is_closing:
            self._has_some.wait()
            self._has_some.clear()
            # More that comes soon goes with the same message.
            self._hurry.wait(_COLLECT_S)
            self._hurry.clear()
            while self._queue and not self._is_given_up:
                self._send([self._queue.popleft() for _ in range(self._next_size)])

    @property
    def _next_size(self) -> int:
        return min(len(self._queue), _MAX_BATCH)

    def _send(self, events: list[TracedEvent]) -> None:
        self._num_chars_out += sum(map(_count_chars, events))
        try:
            self._export([span for event in events for span in self._make_spans(event)])
        except Exception as error:  # noqa: BLE001 - boundary: the thread outlives any exporter
            self._lose(len(events), type(error))
            self._trouble.failed(str(error), self.num_lost)
        else:
            self._trouble.worked()

    def _export(self, spans: list[ReadableSpan]) -> None:
        self._words.forget()
        if self._exporter.export(spans) is not SpanExportResult.SUCCESS:
            raise SpanExportError(self._words.take())

    def _lose(self, num_events: int, kind: type[Exception]) -> None:
        self.num_lost += num_events
        if self._is_given_up:
            return
        # One each: so a batch of many counts as much as as many that found no place.
        for _ in range(num_events):
            self._report(ErrorOccurred(component="tracing", error_type=kind.__name__))


def _count_chars(event: TracedEvent) -> int:
    if not isinstance(event, RequestFinished):
        return 0
    return len(event.prompt or "") + sum(map(len, event.answers))

"""Spans on their way to real collectors, and to some that are dead, hang or refuse."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from mm_orch.core.events import ErrorOccurred, LoadChanged
from mm_orch.core.trace import TraceContext
from mm_orch.monitoring.tracing.exporting import make_exporter
from mm_orch.monitoring.tracing.tracer import Tracer, open_tracer
from mm_orch.monitoring.tracing.trouble import TroubleLog
from tests.otlp import Collector, Protocol
from tests.unit.monitoring.clock import StillClock
from tests.unit.monitoring.tracing.stories import TRACE, exchanged, finished

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

PROTOCOLS: tuple[Protocol, ...] = ("grpc", "http")
# What close() promises, and what a slow machine adds.
CLOSED_WITHIN_S = 2.0 + 3.0
PATIENCE_S = 60


class Reports:
    """Collects what is reported in any thread."""

    def __init__(self) -> None:
        self.told: list[ErrorOccurred] = []
        self._has_news = threading.Condition()

    def __call__(self, event: ErrorOccurred) -> None:
        with self._has_news:
            self.told.append(event)
            self._has_news.notify_all()

    def wait_for(self, count: int) -> list[str]:
        with self._has_news:
            assert self._has_news.wait_for(lambda: len(self.told) >= count, PATIENCE_S)
        return [event.error_type for event in self.told]


@contextmanager
def tracing(
    endpoint: str, reports: Reports | None = None, timeout_s: float = 5
) -> Iterator[Tracer]:
    tracer = open_tracer(
        endpoint,
        sample_rate=1.0,
        service_name="a-test",
        export_timeout_s=timeout_s,
        report=reports or Reports(),
    )
    try:
        yield tracer
    finally:
        tracer.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_spans_reach_a_real_collector_whole(protocol: Protocol) -> None:
    with Collector(protocol) as collector:
        with tracing(collector.endpoint) as tracer:
            tracer.observe(finished())
            tracer.observe(exchanged())
        spans = collector.wait_for(lambda spans: len(spans) == 8)

    root = next(span for span in spans if span.name == "request")
    assert root.trace_id == TRACE.trace_hex
    assert root.span_id == TRACE.span_hex
    assert root.parent_id == f"{0xC3:016x}"
    assert root.state == "vendor=1"
    assert root.resource["service.name"] == "a-test"
    assert {"service.version", "telemetry.sdk.name"} <= set(root.resource)
    inference = next(span for span in spans if span.name == "inference")
    assert inference.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert [moment.name for moment in inference.moments] == ["failover"]
    # Of one request only ends become spans, and their bounds are the events'.
    queue = next(span for span in spans if span.name == "queue")
    assert queue.duration_s == 0.5
    assert root.duration_s == 3.75


def test_http_takes_the_protocols_path_and_opentelemetrys_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with Collector("http") as collector:
        for endpoint in (collector.endpoint, f"{collector.endpoint}/", f"{collector.endpoint}/x"):
            with tracing(endpoint) as tracer:
                tracer.observe(exchanged())
        collector.wait_for(lambda spans: len(spans) == 3)

    assert collector.paths == ["/v1/traces", "/v1/traces", "/x"]
    assert collector.encodings == ["gzip"] * 3


@pytest.mark.parametrize(
    ("endpoint", "kind"),
    [
        ("http://collector:4317", "grpc"),
        ("https://collector:4317", "grpc"),
        ("http://collector:4318", "http"),
        ("https://collector", "http"),
        ("https://collector:4319/own/path", "http"),
    ],
)
def test_the_port_says_which_protocol_is_spoken(endpoint: str, kind: str) -> None:
    exporter = make_exporter(endpoint, 1.0)

    assert f".proto.{kind}." in type(exporter).__module__
    exporter.shutdown()


def test_what_is_not_sampled_or_no_end_is_not_sent() -> None:
    with Collector("http") as collector:
        with tracing(collector.endpoint) as tracer:
            tracer.observe(exchanged(trace=None))
            tracer.observe(exchanged(trace=TraceContext(1, 2, is_sampled=False)))
            tracer.observe(LoadChanged(model="small", num_running=1, num_waiting=0))
            tracer.observe(exchanged())
        spans = collector.wait_for(lambda spans: len(spans) > 0)

    assert [span.trace_id for span in spans] == [TRACE.trace_hex]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_refusal_is_counted_and_told_in_our_words_alone(
    protocol: Protocol, caplog: pytest.LogCaptureFixture
) -> None:
    reports = Reports()
    with Collector(protocol, "refuse") as collector, tracing(collector.endpoint, reports) as tracer:
        for count in (1, 2):
            tracer.observe(exchanged())
            assert reports.wait_for(count) == ["SpanExportError"] * count

    assert {event.component for event in reports.told} == {"tracing"}
    [line] = caplog.records
    assert line.name == "mm_orch.monitoring.tracing.trouble"
    assert f"traces cannot be sent to {collector.endpoint}" in line.message
    assert "1 events are lost so far, requests go on" in line.message


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_end_is_bounded_whatever_the_collector_does(protocol: Protocol) -> None:
    with Collector(protocol, "hang") as collector:
        with tracing(collector.endpoint, timeout_s=30) as tracer:
            tracer.observe(exchanged())
            collector.wait_for_export()
            begin_s = time.monotonic()
        assert time.monotonic() - begin_s < CLOSED_WITHIN_S


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:4317", "http://127.0.0.1:9"])
def test_the_end_is_bounded_where_nobody_listens(endpoint: str) -> None:
    with tracing(endpoint, timeout_s=30) as tracer:
        tracer.observe(exchanged())
        begin_s = time.monotonic()
    assert time.monotonic() - begin_s < CLOSED_WITHIN_S


class Gate(SpanExporter):
    """Lets nothing through until it is told to."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.result = SpanExportResult.SUCCESS
        self.has_begun, self.may_go = threading.Event(), threading.Event()
        self.has_more = threading.Condition()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.has_begun.set()
        assert self.may_go.wait(PATIENCE_S)
        with self.has_more:
            self.spans += spans
            self.has_more.notify_all()
        return self.result

    def wait_for(self, num_spans: int) -> None:
        with self.has_more:
            assert self.has_more.wait_for(lambda: len(self.spans) >= num_spans, PATIENCE_S)

    def shutdown(self) -> None:
        self.may_go.set()


def open_gate(reports: Reports) -> tuple[Gate, Tracer]:
    gate = Gate()
    tracer = Tracer(gate, sample_rate=1.0, service_name="s", report=reports, destination="a gate")
    return gate, tracer


def test_each_event_of_a_batch_that_is_not_taken_counts_as_lost() -> None:
    reports = Reports()
    gate, tracer = open_gate(reports)
    gate.result = SpanExportResult.FAILURE
    tracer.observe(exchanged())
    assert gate.has_begun.wait(PATIENCE_S)

    for _ in range(70):
        tracer.observe(exchanged())
    gate.may_go.set()

    assert reports.wait_for(71) == ["SpanExportError"] * 71
    tracer.close()


def test_a_full_queue_loses_what_comes_and_counts_it() -> None:
    reports = Reports()
    gate, tracer = open_gate(reports)
    tracer.observe(exchanged())
    assert gate.has_begun.wait(PATIENCE_S)

    for _ in range(2048 + 3):
        tracer.observe(exchanged())
    lost = [event.error_type for event in reports.told]
    gate.may_go.set()
    # Closing gives up what takes longer than two seconds.
    gate.wait_for(1 + 2048)
    tracer.close()

    assert lost == ["QueueFullError"] * 3
    assert len(gate.spans) == 1 + 2048


def test_more_text_than_may_wait_is_lost_too() -> None:
    reports = Reports()
    gate, tracer = open_gate(reports)
    long = finished(prompt="x" * 10_000_000)
    tracer.observe(exchanged())
    assert gate.has_begun.wait(PATIENCE_S)

    tracer.observe(long)
    tracer.observe(long)
    tracer.observe(exchanged())
    lost = [event.error_type for event in reports.told]
    gate.may_go.set()
    tracer.close()

    assert lost == ["QueueFullError"]
    assert sum(span.name == "inference" for span in gate.spans) == 1
    assert sum(span.name == "request" for span in gate.spans) == 2


def test_after_its_end_nothing_is_taken() -> None:
    gate, tracer = open_gate(Reports())
    gate.may_go.set()
    tracer.close()

    tracer.observe(exchanged())

    assert gate.spans == []


def test_the_sdk_logs_as_before_once_tracing_has_ended() -> None:
    theirs = logging.getLogger("opentelemetry")
    before = theirs.handlers[:]
    gate, tracer = open_gate(Reports())
    assert not theirs.propagate
    gate.may_go.set()
    tracer.close()

    assert (theirs.propagate, theirs.handlers) == (True, before)


def test_trouble_is_told_once_a_minute_and_its_end_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = StillClock()
    log = TroubleLog("there", clock)
    caplog.set_level(logging.INFO)

    for num_lost in (1, 2):
        log.failed("no way.", num_lost)
        clock.now_s += 59
    clock.now_s += 2
    log.failed("x" * 1000, 3)
    log.worked()
    log.worked()

    told = [(line.levelname, line.message) for line in caplog.records]
    assert [level for level, _ in told] == ["WARNING", "WARNING", "INFO"]
    assert told[0][1].startswith("traces cannot be sent to there: no way. 1 events are lost")
    assert len(told[1][1]) < 500

"""A collector for tests: takes spans over gRPC or HTTP, or hangs, or refuses them."""

from __future__ import annotations

import gzip
import http.server
import threading
from concurrent import futures
from dataclasses import dataclass
from secrets import randbelow
from typing import TYPE_CHECKING, Any, Literal

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as wire
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as wire_grpc

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue

Mode = Literal["take", "hang", "refuse"]
Protocol = Literal["grpc", "http"]
_PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Moment:
    """An event within a span."""

    name: str
    at_ns: int
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Span:
    """A span as it came over the wire; ids are hexadecimal, no parent is empty."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    begin_ns: int
    end_ns: int
    status: int
    description: str
    attributes: dict[str, Any]
    moments: list[Moment]
    resource: dict[str, Any]
    state: str

    @property
    def duration_s(self) -> float:
        return (self.end_ns - self.begin_ns) / 1e9


class Collector:
    """A receiver of spans on a free port, for the length of a ``with``.

    Args:
        protocol: what it speaks.
        mode: ``hang`` takes connections and never answers, ``refuse`` answers with an error.
    """

    def __init__(self, protocol: Protocol, mode: Mode = "take") -> None:
        self.spans: list[Span] = []
        self.num_exports = 0
        self.paths: list[str] = []
        self.encodings: list[str] = []
        self.endpoint = ""
        self._mode = mode
        self._protocol = protocol
        self._has_news = threading.Condition()
        self._may_go = threading.Event()
        self._stop: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        if self._protocol == "grpc":
            self._serve_grpc()
        else:
            self._serve_http()
        return self

    def __exit__(self, *error: object) -> None:
        self._may_go.set()
        self._stop()

    def wait_for(self, fits: Callable[[list[Span]], bool]) -> list[Span]:
        """Wait until the spans taken so far are as described; return them."""
        with self._has_news:
            if not self._has_news.wait_for(lambda: fits(self.spans), _PATIENCE_S):
                raise AssertionError(f"only these came: {[span.name for span in self.spans]}")
            return list(self.spans)

    def wait_for_export(self) -> None:
        """Wait until somebody has tried to export."""
        with self._has_news:
            assert self._has_news.wait_for(lambda: self.num_exports > 0, _PATIENCE_S)

    def take(self, request: wire.ExportTraceServiceRequest) -> bool:
        """Take an export; False to refuse it. Hangs where that is the mode."""
        with self._has_news:
            self.num_exports += 1
            if self._mode == "take":
                self.spans += _read(request)
            self._has_news.notify_all()
        if self._mode == "hang":
            self._may_go.wait(_PATIENCE_S)
        return self._mode == "take"

    def _serve_grpc(self) -> None:
        collector = self

        class Service(wire_grpc.TraceServiceServicer):
            def Export(  # noqa: N802 - the protocol's name
                self, request: wire.ExportTraceServiceRequest, context: grpc.ServicerContext
            ) -> wire.ExportTraceServiceResponse:
                if not collector.take(request):
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no spans here")
                return wire.ExportTraceServiceResponse()

        server = grpc.server(futures.ThreadPoolExecutor(4))
        wire_grpc.add_TraceServiceServicer_to_server(Service(), server)
        # The port says that it is gRPC; each collector has it on an address of its own.
        address = f"127.{_draw_byte()}.{_draw_byte()}.{_draw_byte()}:4317"
        server.add_insecure_port(address)
        server.start()
        self.endpoint = f"http://{address}"
        self._stop = lambda: server.stop(0).wait()

    def _serve_http(self) -> None:
        collector = self

        class Page(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                encoding = self.headers.get("Content-Encoding", "")
                collector.paths.append(self.path)
                collector.encodings.append(encoding)
                data = gzip.decompress(body) if encoding == "gzip" else body
                is_taken = collector.take(wire.ExportTraceServiceRequest.FromString(data))
                self.send_response(200 if is_taken else 400)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
                """Keep quiet."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        self.endpoint = f"http://127.0.0.1:{server.server_port}"

        def stop() -> None:
            server.shutdown()
            thread.join()
            server.server_close()

        self._stop = stop


def _draw_byte() -> int:
    return 1 + randbelow(254)


def _read(request: wire.ExportTraceServiceRequest) -> list[Span]:
    return [
        Span(
            name=span.name,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            kind=span.kind,
            begin_ns=span.start_time_unix_nano,
            end_ns=span.end_time_unix_nano,
            status=span.status.code,
            description=span.status.message,
            attributes={one.key: _value(one.value) for one in span.attributes},
            moments=[
                Moment(
                    event.name,
                    event.time_unix_nano,
                    {one.key: _value(one.value) for one in event.attributes},
                )
                for event in span.events
            ],
            resource={one.key: _value(one.value) for one in group.resource.attributes},
            state=span.trace_state,
        )
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_value(one) for one in value.array_value.values)
    return getattr(value, str(kind))

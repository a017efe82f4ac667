"""A collector of traces that counts the spans and forgets them.

usage: python -m benchmarks.servers.otlp_sink PORT ADDRESS

Takes OTLP over gRPC at ADDRESS (host:port); over HTTP on PORT any path answers with the count.
"""

from __future__ import annotations

import http.server
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_HOST = "127.0.0.1"
_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


class Sink:
    """What has come so far; one thread adds to it."""

    def __init__(self) -> None:
        self.num_spans = 0

    def take(
        self,
        request: ExportTraceServiceRequest,
        context: grpc.ServicerContext,  # noqa: ARG002 - gRPC's own
    ) -> ExportTraceServiceResponse:
        """Count an export's spans."""
        scopes = (scope for group in request.resource_spans for scope in group.scope_spans)
        self.num_spans += sum(len(scope.spans) for scope in scopes)
        return ExportTraceServiceResponse()


def start(sink: Sink, address: str) -> grpc.Server:
    """Listen for exports."""
    export = grpc.unary_unary_rpc_method_handler(
        sink.take,
        request_deserializer=ExportTraceServiceRequest.FromString,
        response_serializer=ExportTraceServiceResponse.SerializeToString,
    )
    server = grpc.server(ThreadPoolExecutor(1))
    methods = grpc.method_handlers_generic_handler(_SERVICE, {"Export": export})
    server.add_generic_rpc_handlers((methods,))
    server.add_insecure_port(address)
    server.start()
    return server


def main(arguments: Sequence[str]) -> None:
    """Serve until the process is ended."""
    port, address = arguments
    sink = Sink()
    exports = start(sink, address)

    class Count(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"num_spans": sink.num_spans}).encode()
            self.send_response(http.HTTPStatus.OK)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    try:
        http.server.HTTPServer((_HOST, int(port)), Count).serve_forever()
    finally:
        exports.stop(None)


if __name__ == "__main__":
    main(sys.argv[1:])

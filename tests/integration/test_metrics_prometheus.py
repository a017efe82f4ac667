"""A real Prometheus scrapes a real HTTP endpoint and answers questions about it."""

from __future__ import annotations

import http.server
import threading
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.events import FirstTokenProduced, ModelLoaded
from mm_orch.core.trace import TraceContext
from mm_orch.monitoring.prometheus import PrometheusObserver
from tests.prometheus import run_prometheus
from tests.unit.monitoring.scripted_events import ENGINE, MODEL, finished, story

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.prometheus import Prometheus


@pytest.fixture
def observer() -> PrometheusObserver:
    observer = PrometheusObserver([MODEL])
    observer.observe(ModelLoaded(model=MODEL, engine=ENGINE, duration_s=4.0))
    return observer


@pytest.fixture
def endpoint(observer: PrometheusObserver) -> Iterator[str]:
    """Where the metrics are served, as host:port."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body, content_type = observer.render(self.headers.get("Accept", ""))
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            """Keep quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def prometheus(endpoint: str, tmp_path: Path) -> Iterator[Prometheus]:
    with run_prometheus(tmp_path, endpoint) as prometheus:
        yield prometheus


def test_prometheus_reads_the_series_and_sees_the_first_request(
    prometheus: Prometheus, observer: PrometheusObserver
) -> None:
    succeeded = f'inference_requests_total{{model="{MODEL}",engine="{ENGINE}",status="success"}}'
    prometheus.wait_for('up{job="muai"}', 1)
    # The zero was scraped before anything happened ...
    prometheus.wait_for(succeeded, 0)

    for event in story():
        observer.observe(event)

    # ... so the first request is an increase, not a beginning.
    prometheus.wait_for(succeeded, 1)
    [rate] = prometheus.values(f"rate({succeeded}[1m])")
    assert rate > 0
    [quantile] = prometheus.values(
        "histogram_quantile(0.5, sum by (le) (rate(time_to_first_token_seconds_bucket[1m])))"
    )
    assert 0.25 <= quantile <= 0.5

    observer.observe(finished())
    prometheus.wait_for(succeeded, 2)
    prometheus.wait_for(f'generation_tokens_total{{model="{MODEL}"}}', 44)
    prometheus.wait_for(f'requests_waiting{{model="{MODEL}"}}', 5)
    prometheus.wait_for("http_requests_total", 1)


def test_an_exemplar_leads_from_a_slow_first_token_to_its_trace(
    prometheus: Prometheus, observer: PrometheusObserver
) -> None:
    prometheus.wait_for('up{job="muai"}', 1)
    trace = TraceContext(trace_id=0xABC, span_id=1, is_sampled=True)
    observer.observe(
        FirstTokenProduced(request_id="r1", model=MODEL, engine=ENGINE, ttft_s=7.0, trace=trace)
    )
    prometheus.wait_for("time_to_first_token_seconds_count", 1)

    labels = prometheus.exemplars("time_to_first_token_seconds_bucket", past_s=60)

    assert labels == [{"trace_id": trace.trace_hex}]

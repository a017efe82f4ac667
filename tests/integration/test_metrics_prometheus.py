"""A real Prometheus scrapes a real HTTP endpoint and answers questions about it."""

from __future__ import annotations

import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.monitoring.prometheus import PrometheusObserver
from tests.unit.monitoring.scripted_events import ENGINE, MODEL, finished, story

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed"
)

_START_TIMEOUT_S = 60
_POLL_S = 0.1


@pytest.fixture
def observer() -> PrometheusObserver:
    return PrometheusObserver([MODEL], engine_by_model={MODEL: ENGINE})


@pytest.fixture
def endpoint(observer: PrometheusObserver) -> Iterator[str]:
    """Where the metrics are served, as host:port."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body, content_type = observer.render()
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


class Prometheus:
    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self._url}{path}", timeout=10) as response:  # noqa: S310 - ours
            return json.loads(response.read())

    def ask(self, expression: str) -> list[float]:
        """The values of an instant query."""
        query = urllib.parse.urlencode({"query": expression})
        result = self.get(f"/api/v1/query?{query}")["data"]["result"]
        return [float(series["value"][1]) for series in result]

    def wait_for(self, expression: str, value: float) -> None:
        """Ask again until a scrape has brought the value."""
        end_s = time.monotonic() + _START_TIMEOUT_S
        while (found := self.ask(expression)) != [value]:
            if time.monotonic() > end_s:
                raise AssertionError(f"{expression} is {found}, not {value}")
            time.sleep(_POLL_S)


@pytest.fixture
def prometheus(endpoint: str, tmp_path: Path) -> Iterator[Prometheus]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
        "scrape_configs": [{"job_name": "muai", "static_configs": [{"targets": [endpoint]}]}],
    }
    config = tmp_path / "prometheus.yml"
    # JSON is YAML.
    config.write_text(json.dumps(settings))
    with (tmp_path / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                f"--web.listen-address={address}",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=log,
        )
        client = Prometheus(f"http://{address}")
        try:
            _wait_until_up(client, process)
            yield client
        finally:
            process.terminate()
            process.wait(30)


def _wait_until_up(client: Prometheus, process: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            client.get("/api/v1/status/runtimeinfo")
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, "prometheus has ended"
            assert time.monotonic() < end_s, "prometheus does not answer"
            time.sleep(_POLL_S)
        else:
            return


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
    [rate] = prometheus.ask(f"rate({succeeded}[1m])")
    assert rate > 0
    [quantile] = prometheus.ask(
        "histogram_quantile(0.5, sum by (le) (rate(time_to_first_token_seconds_bucket[1m])))"
    )
    assert 0.25 <= quantile <= 0.5

    observer.observe(finished())
    prometheus.wait_for(succeeded, 2)
    prometheus.wait_for(f'generation_tokens_total{{model="{MODEL}"}}', 44)
    prometheus.wait_for(f'requests_waiting{{model="{MODEL}"}}', 5)
    prometheus.wait_for("http_requests_total", 1)

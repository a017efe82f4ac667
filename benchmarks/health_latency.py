"""How soon /health answers while the engine keeps every core busy.

usage: python -m benchmarks.health_latency [--requests N] [--streams N]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from benchmarks.results_file import write_results
from benchmarks.statistics import percentile

_ROOT = Path(__file__).parents[1]
_BAR_MS = 50.0
_PROMPT = "Tell me everything about the history of computing. " * 40


def main() -> int:
    """Measure, print, write; return 0 when the bar is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--streams", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        process = _start(directory)
        try:
            port = _read_port(process)
            _wait_until_ready(port)
            figures = _measure(port, options.requests, options.streams)
        finally:
            process.terminate()
            process.wait()
    print(json.dumps(figures, indent=2))
    path = write_results("health_latency", {**figures, "bar_p99_ms": _BAR_MS})
    print(f"written: {path.relative_to(_ROOT)}")
    return 0 if figures["p99_ms"] <= _BAR_MS else 1


def _measure(port: int, num_requests: int, num_streams: int) -> dict[str, float]:
    is_over = threading.Event()
    streams = [
        threading.Thread(target=_stream_until, args=(port, is_over)) for _ in range(num_streams)
    ]
    for stream in streams:
        stream.start()
    while _ask(port, "/api/status")["num_running"] < num_streams:
        time.sleep(0.1)
    psutil.cpu_percent()
    times_ms = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for _ in range(num_requests):
        begin = time.perf_counter()
        connection.request("GET", "/health")
        connection.getresponse().read()
        times_ms.append((time.perf_counter() - begin) * 1000)
        # As a prober would: not the next at once.
        time.sleep(0.01)
    busy_percent = psutil.cpu_percent()
    is_over.set()
    for stream in streams:
        stream.join()
    return {
        "num_requests": num_requests,
        "num_streams": num_streams,
        "cpu_busy_percent": busy_percent,
        "p50_ms": round(percentile(times_ms, 0.5), 2),
        "p99_ms": round(percentile(times_ms, 0.99), 2),
        "max_ms": round(max(times_ms), 2),
    }


def _stream_until(port: int, is_over: threading.Event) -> None:
    while not is_over.is_set():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        body = {
            "messages": [{"role": "user", "content": _PROMPT}],
            "max_tokens": 400,
            "ignore_eos": True,
            "stream": True,
        }
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        while not is_over.is_set() and response.readline():
            pass
        connection.close()


def _start(directory: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mm_orch.main", "--server", "--port", "0"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(_ROOT), "MUAI_MON_PROMETHEUS_PORT": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _read_port(process: subprocess.Popen[str]) -> int:
    for line in process.stdout or ():
        for word in line.split():
            if word.startswith("http://") and not word.endswith("/metrics"):
                return int(word.rstrip("/").rpartition(":")[2])
    message = f"the server ended with {process.wait()}"
    raise RuntimeError(message)


def _wait_until_ready(port: int) -> None:
    while not _ask(port, "/api/status")["is_ready"]:
        time.sleep(0.2)


def _ask(port: int, path: str) -> dict[str, float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    answer: dict[str, float] = json.loads(connection.getresponse().read())
    connection.close()
    return answer


if __name__ == "__main__":
    sys.exit(main())

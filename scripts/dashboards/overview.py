"""The dashboard to look at first: are requests answered, how fast, and what does it take?"""

from __future__ import annotations

from dashboards import panels
from dashboards.board import Row
from dashboards.panels import Query, lines, number
from dashboards.queries import OF_MODEL, gauge, quantile, quantiles, rate

_FAILED = f'{OF_MODEL}, status=~"error|timeout"'
_TAKEN_IN = f'{OF_MODEL}, status=~"success|error|timeout"'
_EACH_MODEL = "{{model}}"


def rows() -> list[Row]:
    """Return the dashboard's rows."""
    return [
        Row("Now", _numbers(), per_line=6, height=4),
        Row("Requests", _requests(), per_line=3),
        Row("Trouble", _trouble(), per_line=4),
        Row("Workflows", _workflows(), per_line=3),
        Row("Server", _server(), per_line=3),
        Row("Tuner", _tuning(), per_line=2),
    ]


def _numbers() -> list[panels.PanelBuilder]:
    return [
        number(
            "Servers up",
            "Servers whose metrics Prometheus can read.",
            panels.COUNT,
            Query('sum(up{job="muai"})', "up"),
            colors={None: "red", 1: "green"},
        ),
        number(
            "Requests per second",
            "Requests that have ended, however they did.",
            panels.REQUESTS_PER_SECOND,
            Query(rate("inference_requests_total"), "requests"),
        ),
        number(
            "Errors",
            "Share of requests that failed or ran out of time, of those that were taken in.",
            panels.RATIO,
            Query(_error_ratio(""), "errors"),
            colors={None: "green", 0.005: "yellow", 0.05: "red"},
        ),
        number(
            "First token, p95",
            "95 % of first tokens come within this time.",
            panels.SECONDS,
            Query(quantile("time_to_first_token_seconds", 0.95, "job"), "p95"),
        ),
        number(
            "Waiting",
            "Requests that wait for a place in a batch.",
            panels.COUNT,
            Query(gauge("requests_waiting", ""), "waiting"),
            colors={None: "green", 1: "yellow", 32: "red"},
        ),
        number(
            "Uptime",
            "Of the server that was started last.",
            panels.SECONDS,
            Query("min(system_uptime_seconds)", "uptime"),
        ),
    ]


def _requests() -> list[panels.PanelBuilder]:
    return [
        lines(
            "Requests by status",
            "Ended requests per second. Rejected are callers' mistakes and a full queue.",
            panels.REQUESTS_PER_SECOND,
            Query(rate("inference_requests_total", "status"), "{{status}}"),
        ),
        lines(
            "Latency",
            "Admission to last token.",
            panels.SECONDS,
            *quantiles("inference_latency_seconds"),
        ),
        lines(
            "Time to first token",
            "Admission to first token.",
            panels.SECONDS,
            *quantiles("time_to_first_token_seconds"),
        ),
        lines(
            "Tokens per second",
            "Generated, and of prompts; counted when their request ends.",
            panels.TOKENS_PER_SECOND,
            Query(rate("generation_tokens_total", "model"), "generated {{model}}"),
            Query(rate("prompt_tokens_total", "model"), "prompt {{model}}"),
            Query(gauge("throughput_tokens_per_second"), "generated, last minute {{model}}"),
        ),
        lines(
            "Running and waiting",
            "Requests in a batch, and those that wait for one.",
            panels.COUNT,
            Query(gauge("requests_running"), "running {{model}}"),
            Query(gauge("requests_waiting"), "waiting {{model}}"),
        ),
        lines(
            "Successes per second",
            "As the server itself counts them, over the last minute.",
            panels.REQUESTS_PER_SECOND,
            Query(gauge("throughput_requests_per_second"), _EACH_MODEL),
        ),
    ]


def _trouble() -> list[panels.PanelBuilder]:
    return [
        lines(
            "Error ratio",
            "Failed or out of time, of the requests that were taken in.",
            panels.RATIO,
            Query(_error_ratio("model"), _EACH_MODEL),
        ),
        lines(
            "Failures",
            "By component and class of the exception, for all models.",
            panels.PER_SECOND,
            Query(
                rate("errors_total", "component, error_type", ""), "{{component}} {{error_type}}"
            ),
        ),
        lines(
            "Refused",
            "Full queue, deadline too soon, rate limit, draining or no model; of all models.",
            panels.REQUESTS_PER_SECOND,
            Query(rate("requests_refused_total", "reason", ""), "{{reason}}"),
        ),
        lines(
            "Alerts",
            "Alerts of the server's own anomaly detection in the hour before.",
            panels.COUNT,
            Query("sum by (type, severity) (increase(alerts_total[1h]))", "{{type}} {{severity}}"),
        ),
    ]


def _workflows() -> list[panels.PanelBuilder]:
    return [
        lines(
            "Runs by status",
            "Runs of workflows that have ended, per second; partial ones lack a step.",
            panels.PER_SECOND,
            Query(rate("workflow_runs_total", "workflow, status", ""), "{{workflow}} {{status}}"),
        ),
        lines(
            "Run time, p95",
            "Call to end, of runs that were let in.",
            panels.SECONDS,
            Query(quantile("workflow_duration_seconds", 0.95, "workflow", ""), "{{workflow}}"),
        ),
        lines(
            "Chosen workflows",
            "Of calls that named none, by who decided.",
            panels.PER_SECOND,
            Query(rate("routing_decisions_total", "workflow, by", ""), "{{workflow}} by {{by}}"),
        ),
        lines(
            "Mood and stage",
            "As the last outcome left them: mood from -1 to 1, the stage that has been reached.",
            panels.COUNT,
            Query("mood_valence", "valence {{instance}}"),
            Query("mood_arousal", "arousal {{instance}}"),
            Query("development_stage", "stage {{instance}}"),
            min_value=-1,
        ),
        lines(
            "Feedback",
            "Answers that callers have rated, per second.",
            panels.PER_SECOND,
            Query(rate("feedback_total", "rating", ""), "{{rating}}"),
        ),
    ]


def _server() -> list[panels.PanelBuilder]:
    return [
        lines(
            "Processor",
            "Use of all cores of the host.",
            panels.PERCENT,
            Query("cpu_usage_percent", "{{instance}}"),
            max_value=100,
        ),
        lines(
            "Memory",
            "Of the host.",
            panels.BYTES,
            Query("memory_used_bytes", "used {{instance}}"),
            Query("memory_total_bytes", "total {{instance}}"),
        ),
        lines(
            "HTTP by status",
            "Exchanges per second; 499 is a client that left before its answer began.",
            panels.REQUESTS_PER_SECOND,
            Query(rate("http_requests_total", "status", ""), "{{status}}"),
        ),
        lines(
            "HTTP by route",
            "Exchanges per second by path template and method.",
            panels.REQUESTS_PER_SECOND,
            Query(rate("http_requests_total", "route, method", ""), "{{method}} {{route}}"),
        ),
        lines(
            "HTTP by route, last minute",
            "As the server itself counts them.",
            panels.REQUESTS_PER_SECOND,
            Query("sum by (route) (http_requests_per_second)", "{{route}}"),
        ),
        lines(
            "HTTP time, p95",
            "First to last byte of an exchange, streams included.",
            panels.SECONDS,
            Query(quantile("http_request_duration_seconds", 0.95, "route", ""), "{{route}}"),
        ),
    ]


def _tuning() -> list[panels.PanelBuilder]:
    return [
        lines(
            "Tuned",
            "What the tuner has in force, where it is on.",
            panels.COUNT,
            Query("auto_tuning_batch_size", "max_batch_size {{instance}}"),
            Query("auto_tuning_batch_timeout_ms", "batch_timeout_ms {{instance}}"),
            Query("auto_tuning_cache_size_mb", "max_memory_mb {{instance}}"),
        ),
        lines(
            "Decisions of the tuner",
            "In the hour before, and those of them that took back what had been tried.",
            panels.COUNT,
            Query(_increase("auto_tuning_decisions_total"), "{{parameter}} {{direction}}"),
            Query(_increase("auto_tuning_rollbacks_total"), "back: {{parameter}} {{direction}}"),
            Query(
                _increase("auto_tuning_guard_steps_total", "p95"),
                "guard: {{parameter}}, p95 {{p95}} the target",
            ),
        ),
    ]


def _increase(series: str, label: str = "direction") -> str:
    return f"sum by (parameter, {label}) (increase({series}[1h]))"


def _error_ratio(by: str) -> str:
    failed = rate("inference_requests_total", by, _FAILED)
    return f"{failed} / {rate('inference_requests_total', by, _TAKEN_IN)}"

"""What a real server tells a real collector of its requests, and what a bad one costs them."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mm_orch.core.trace import TraceContext, parse_trace
from tests.available import require_engine
from tests.otlp import Collector, Mode, Protocol, Span
from tests.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests import odd_engines as odd
    from tests.processes import ServerProcess

    Launch = Callable[..., ServerProcess]

pytestmark = pytest.mark.model

MODEL = "smollm2-135m"
CHAT = "/v1/chat/completions"
QUESTION = "One two three four five six seven."
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 8}
PROTOCOLS: tuple[Protocol, ...] = ("grpc", "http")
TREE = ["decode", "inference", "prefill", "queue", "request", "route"]
PARENTS = {
    "route": "request",
    "queue": "request",
    "inference": "request",
    "prefill": "inference",
    "decode": "inference",
}
# Spans tell whole nanoseconds.
EXACT_S = 2e-9
NUM_SAMPLED = 300
# A true rate is missed by more once in 15 000 runs.
NUM_DEVIATIONS = 4
# Of the engine that is told to break.
RAISING = "_commit"
LOG_OF_WORKERS = "mm_orch.workers.log_tail"
# Bounded: 2 s for the traces beside what the end takes anyway.
STOPPED_WITHIN_S = 20


def settings(
    endpoint: str, *, engines: Sequence[str] = ("echo",), **tracing: object
) -> dict[str, object]:
    return {
        "models": {MODEL: {"engines": list(engines)}},
        "monitoring": {"tracing": {"endpoint": endpoint, **tracing}},
        "system": {"log_format": "json"},
    }


def ask(server: ServerProcess, headers: Mapping[str, str] | None = None, **more: object) -> Any:
    return server.request("POST", CHAT, {**HELLO, **more}, headers)


def with_engines(switch: odd.Switch) -> dict[str, str]:
    path = switch.environment["PYTHONPATH"]
    return {**switch.environment, "PYTHONPATH": f"{path}:{ROOT}"}


def has_roots(count: int) -> Callable[[list[Span]], bool]:
    return lambda spans: sum(span.name == "request" for span in spans) >= count


def only(spans: list[Span], name: str) -> Span:
    [span] = [span for span in spans if span.name == name]
    return span


def read_metrics(server: ServerProcess) -> dict[tuple[str, str], float]:
    """The samples that are not zero, by name and route."""
    page = server.request("GET", "/metrics").body.decode()
    return {
        (sample.name, sample.labels.get("route", "")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.value and not sample.name.endswith("_bucket")
    }


@pytest.mark.parametrize(
    ("protocol", "engine"), [("grpc", "echo"), ("http", "echo"), ("http", "onnx")]
)
def test_one_request_is_one_trace_with_the_metrics_times(
    launch: Launch, protocol: Protocol, engine: str
) -> None:
    require_engine(engine)
    with Collector(protocol) as collector:
        server = launch(
            config=settings(collector.endpoint, engines=[engine], service_name="tested")
        )
        reply = ask(server, {"X-Request-ID": "mine"}, temperature=0)
        spans = collector.wait_for(has_roots(1))
        metrics = read_metrics(server)
        assert server.stop() == 0

    assert sorted(span.name for span in spans) == TREE
    name_by_id = {span.span_id: span.name for span in spans}
    assert {span.name: name_by_id[span.parent_id] for span in spans if span.parent_id} == PARENTS
    root, queue, inference = (only(spans, name) for name in ("request", "queue", "inference"))
    route, prefill, decode = (only(spans, name) for name in ("route", "prefill", "decode"))
    own = parse_trace(reply.headers["traceparent"])
    assert own is not None
    assert {span.trace_id for span in spans} == {own.trace_hex}
    assert root.span_id == own.span_hex
    assert root.resource["service.name"] == "tested"
    assert root.attributes["muai.request.id"] == "mine"
    assert (root.attributes["url.scheme"], root.attributes["url.path"]) == ("http", CHAT)
    assert inference.attributes["gen_ai.request.model"] == MODEL
    assert inference.attributes["muai.engine"] == engine
    usage = reply.json["usage"]
    assert inference.attributes["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert inference.attributes["gen_ai.usage.output_tokens"] == usage["completion_tokens"] == 8
    assert inference.attributes["gen_ai.response.finish_reasons"] == ("length",)
    assert QUESTION not in str(spans)

    def told_s(name: str, path: str = "") -> Any:
        return pytest.approx(metrics[f"{name}_sum", path], rel=0, abs=EXACT_S)

    assert root.duration_s == told_s("http_request_duration_seconds", CHAT)
    assert queue.duration_s == told_s("queue_wait_seconds")
    assert (inference.end_ns - route.begin_ns) / 1e9 == told_s("inference_latency_seconds")
    assert (prefill.end_ns - route.begin_ns) / 1e9 == told_s("time_to_first_token_seconds")
    assert inference.attributes["muai.ttft_s"] == told_s("time_to_first_token_seconds")
    assert prefill.end_ns == decode.begin_ns
    assert root.begin_ns <= route.begin_ns <= inference.begin_ns <= prefill.begin_ns
    assert prefill.begin_ns <= decode.begin_ns <= decode.end_ns <= inference.end_ns <= root.end_ns
    assert abs(root.end_ns - time.time_ns()) < 300e9


def test_a_callers_trace_goes_on_and_its_decision_counts(launch: Launch) -> None:
    taken = TraceContext(0xABC, 0xDEF, is_sampled=True, state="vendor=1")
    left = TraceContext(0x123, 0x456, is_sampled=False)
    with Collector("http") as collector:
        server = launch(config=settings(collector.endpoint, sample_rate=0.0))
        replies = [
            ask(server, {"traceparent": trace.traceparent, "tracestate": trace.state})
            for trace in (left, taken)
        ]
        ask(server)
        server.stop()
        spans = list(collector.spans)

    assert sorted(span.name for span in spans) == TREE
    root = only(spans, "request")
    assert (root.trace_id, root.parent_id) == (taken.trace_hex, taken.span_hex)
    assert root.state == "vendor=1"
    told = [parse_trace(reply.headers["traceparent"]) for reply in replies]
    assert [(one.trace_id, one.is_sampled) for one in told if one is not None] == [
        (left.trace_id, False),
        (taken.trace_id, True),
    ]
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    ends = [line for line in lines if line["event"] == "request finished"]
    assert [line["trace_id"] for line in ends[:2]] == [left.trace_hex, taken.trace_hex]
    assert (ends[1]["span_id"], len(ends)) == (root.span_id, 3)


@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
def test_the_share_asked_for_is_traced(launch: Launch, rate: float) -> None:
    with Collector("http") as collector:
        server = launch(config=settings(collector.endpoint, sample_rate=rate))
        for _ in range(NUM_SAMPLED):
            ask(server, max_tokens=1)
        server.stop()
        spans = list(collector.spans)

    num_traced = len({span.trace_id for span in spans})
    deviation = math.sqrt(NUM_SAMPLED * rate * (1 - rate))
    assert abs(num_traced - NUM_SAMPLED * rate) <= NUM_DEVIATIONS * deviation
    assert sum(span.name == "request" for span in spans) == num_traced
    assert sum(span.name == "inference" for span in spans) == num_traced


def test_an_error_stands_in_its_trace_with_its_stack(
    launch: Launch, odd_engines: odd.Switch
) -> None:
    with Collector("grpc") as collector:
        server = launch(
            config={
                **settings(collector.endpoint, engines=["odd"]),
                "optimization": {"fallback_on_error": False},
                "system": {"log_format": "json", "log_level": "debug"},
            },
            environment=with_engines(odd_engines),
        )
        odd_engines.order("break")
        reply = ask(server)
        spans = collector.wait_for(has_roots(1))
        server.stop()

    assert reply.status == 503
    root, inference = only(spans, "request"), only(spans, "inference")
    assert (root.status, root.attributes["http.response.status_code"]) == (2, 503)
    assert inference.status == 2
    [told] = [moment for moment in inference.moments if moment.name == "exception"]
    assert not inference.description.endswith("..")
    assert told.attributes["exception.type"] == inference.attributes["error.type"]
    assert inference.description == told.attributes["exception.message"]
    stack = told.attributes["exception.stacktrace"]
    assert stack.startswith("Traceback (most recent call last)")
    assert f"in {RAISING}\n" in stack
    assert RAISING not in reply.body.decode()
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    [failure] = [line for line in lines if "a step failed" in line["event"]]
    assert f"in {RAISING}\n" in failure["exception"]
    of_worker = [line["event"] for line in lines if line["logger"] == LOG_OF_WORKERS]
    assert sum(line.endswith(f"in {RAISING}") for line in of_worker) == 1


def test_a_failover_is_told_with_both_engines(launch: Launch, odd_engines: odd.Switch) -> None:
    with Collector("grpc") as collector:
        server = launch(
            config=settings(collector.endpoint, engines=["odd", "spare"]),
            environment=with_engines(odd_engines),
        )
        odd_engines.order("die")
        assert ask(server).status == 200
        spans = collector.wait_for(has_roots(1))
        server.stop()

    inference = only(spans, "inference")
    [told] = [moment for moment in inference.moments if moment.name == "failover"]
    assert told.attributes["muai.failover.from_engine"] == "odd"
    assert told.attributes["muai.failover.to_engine"] in {"odd", "spare"}
    assert told.attributes["muai.failover.reason"]
    parts = [span for span in spans if span.name in {"prefill", "decode"}]
    assert {span.parent_id for span in parts} == {inference.span_id}
    names = [span.name for span in parts]
    # The engine that dies may do so before it has told of its first step.
    assert 1 <= names.count("prefill") == names.count("decode") <= 2


def test_another_server_that_answers_goes_on_with_the_trace(launch: Launch) -> None:
    with Collector("http") as collector:
        behind = launch(config=settings(collector.endpoint, service_name="behind", sample_rate=0.0))
        before = launch(
            config={
                **settings(collector.endpoint, service_name="before"),
                "models": {"theirs": {"source": f"openai:{behind.url}#{MODEL}"}},
            }
        )
        assert ask(before, model="theirs").status == 200
        spans = collector.wait_for(has_roots(2))
        before.stop()
        behind.stop()

    by_service = {
        service: [span for span in spans if span.resource["service.name"] == service]
        for service in ("before", "behind")
    }
    assert {span.trace_id for span in spans} == {spans[0].trace_id}
    root = only(by_service["before"], "request")
    assert only(by_service["behind"], "request").parent_id == root.span_id
    assert sorted(span.name for span in by_service["behind"]) == TREE


def test_prompt_and_answer_are_told_only_where_that_is_asked_for(launch: Launch) -> None:
    with Collector("http") as collector:
        server = launch(config=settings(collector.endpoint, capture_content=True))
        answer = ask(server).json["choices"][0]["message"]["content"]
        spans = collector.wait_for(has_roots(1))
        server.stop()

    attributes = only(spans, "inference").attributes
    [asked] = [
        message
        for message in json.loads(attributes["gen_ai.input.messages"])
        if message["role"] == "user"
    ]
    assert asked["parts"] == [{"type": "text", "content": QUESTION}]
    [told] = json.loads(attributes["gen_ai.output.messages"])
    assert told["parts"] == [{"type": "text", "content": answer}]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("mode", ["hang", "refuse"])
def test_a_bad_collector_costs_no_request_and_no_end(
    launch: Launch, protocol: Protocol, mode: Mode
) -> None:
    with Collector(protocol, mode) as collector:
        server = launch(config=settings(collector.endpoint))
        replies = [ask(server, max_tokens=1) for _ in range(20)]
        collector.wait_for_export()
        replies += [ask(server, max_tokens=1) for _ in range(20)]
        begin_s = time.monotonic()
        assert server.stop() == 0
        took_s = time.monotonic() - begin_s

    assert {reply.status for reply in replies} == {200}
    assert took_s < STOPPED_WITHIN_S
    # Nothing but our own lines: no words of libraries on standard error.
    loggers = [json.loads(line)["logger"] for line in server.log.splitlines()]
    assert all(name.startswith("mm_orch.") for name in loggers)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://127.199.1.1:4317"])
def test_a_dead_collector_costs_no_request_and_no_end(launch: Launch, endpoint: str) -> None:
    server = launch(config=settings(endpoint, export_timeout_ms=1))
    assert {ask(server, max_tokens=1).status for _ in range(20)} == {200}
    wait_for_log(server, "traces cannot be sent to")
    assert server.stop() == 0

    assert server.log.count("traces cannot be sent to") == 1
    assert "opentelemetry." not in server.log
    assert "Traceback" not in server.log


def wait_for_log(server: ServerProcess, text: str) -> None:
    end_s = time.monotonic() + 60
    while text not in server.log:
        assert time.monotonic() < end_s, server.log
        time.sleep(0.05)

"""Which spans events become: their tree, their bounds, what they say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.trace import SpanKind, StatusCode

from mm_orch.core.events import Attempt, ErrorReport, RequestStatus
from mm_orch.core.trace import TraceContext
from mm_orch.core.workflow_events import WorkflowStepFinished
from tests.unit.monitoring.tracing.stories import (
    BROKEN,
    EPOCH_NS,
    FIRST,
    SECOND,
    TRACE,
    exchanged,
    finished,
    make_maker,
    ns_of,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan


def spans_of(*events: Any) -> list[ReadableSpan]:
    maker = make_maker()
    return [span for event in events for span in maker.make(event)]


def bounds_s(span: ReadableSpan) -> tuple[float, float]:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.start_time - EPOCH_NS) / 1e9, (span.end_time - EPOCH_NS) / 1e9


def test_a_request_is_one_tree_with_the_bounds_of_its_events() -> None:
    spans = spans_of(finished(), exchanged())

    by_id = {span.context.span_id: span for span in spans}
    assert [
        (span.name, by_id[span.parent.span_id].name if span.parent.span_id in by_id else None)
        for span in spans
    ] == [
        ("route", "request"),
        ("queue", "request"),
        ("inference", "request"),
        ("prefill", "inference"),
        ("decode", "inference"),
        ("prefill", "inference"),
        ("decode", "inference"),
        ("request", None),
    ]
    assert [bounds_s(span) for span in spans] == [
        (10.0, 10.1),
        (10.0, 10.5),
        (10.2, 13.25),
        (10.5, 11.0),
        (11.0, 11.5),
        (11.7, 12.0),
        (12.0, 13.0),
        (9.75, 13.5),
    ]
    assert {span.context.trace_id for span in spans} == {TRACE.trace_id}
    assert len(by_id) == len(spans)
    assert all(span.context.trace_state.to_header() == "vendor=1" for span in spans)


@pytest.mark.parametrize(
    ("error_type", "status"), [("", StatusCode.UNSET), ("EngineFailedError", StatusCode.ERROR)]
)
def test_a_workflows_step_is_its_own_span_below_the_request(
    error_type: str, status: StatusCode
) -> None:
    own = TraceContext(TRACE.trace_id, 0xD4, is_sampled=True)
    step = WorkflowStepFinished(
        request_id="r1",
        workflow="chat_generate",
        step="answer",
        outcome="failed" if error_type else "ended",
        begin_s=11.0,
        duration_s=0.5,
        num_attempts=2,
        trace=own,
        parent_span_id=TRACE.span_id,
        error_type=error_type,
        message="no memory" if error_type else "",
    )

    [span] = spans_of(step)
    below = spans_of(finished(trace=own))

    assert (span.name, span.context.span_id, span.parent.span_id) == (
        "workflow.step answer",
        0xD4,
        TRACE.span_id,
    )
    assert bounds_s(span) == (11.0, 11.5)
    assert (span.status.status_code, span.status.description) == (
        status,
        "no memory" if error_type else None,
    )
    assert span.attributes["muai.workflow.name"] == "chat_generate"
    assert span.attributes["muai.workflow.step.attempts"] == 2
    assert span.attributes.get("error.type", "") == error_type
    parents = {one.parent.span_id for one in below if one.name in {"route", "queue", "inference"}}
    assert parents == {0xD4}


def test_the_root_is_a_servers_and_its_parent_the_callers() -> None:
    [root] = spans_of(exchanged())

    assert root.kind is SpanKind.SERVER
    assert (root.parent.span_id, root.parent.is_remote) == (0xC3, True)
    assert root.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "url.path": "/v1/chat/completions",
        "url.scheme": "https",
        "http.response.status_code": 200,
        "muai.request.id": "r1",
    }
    assert root.status.status_code is StatusCode.UNSET


def test_the_root_of_a_trace_that_began_here_has_no_parent() -> None:
    [root] = spans_of(exchanged(parent_span_id=0))

    assert root.parent is None


@pytest.mark.parametrize(
    ("status", "is_error"), [(200, False), (404, False), (499, False), (500, True), (503, True)]
)
def test_only_a_fault_of_the_server_makes_the_root_an_error(status: int, is_error: bool) -> None:  # noqa: FBT001 - from the table
    [root] = spans_of(exchanged(status))

    assert (root.status.status_code is StatusCode.ERROR) is is_error
    assert root.attributes is not None
    assert ("error.type" in root.attributes) is is_error


def test_a_stream_that_broke_off_makes_the_root_an_error() -> None:
    [root] = spans_of(exchanged(error_type="EngineFailedError"))

    assert root.status.status_code is StatusCode.ERROR
    assert root.attributes is not None
    assert root.attributes["error.type"] == "EngineFailedError"
    assert root.attributes["http.response.status_code"] == 200


def test_an_odd_method_is_named_as_the_convention_names_it() -> None:
    [root] = spans_of(exchanged(method="OTHER"))

    assert root.attributes is not None
    assert root.attributes["http.request.method"] == "_OTHER"


def test_the_inference_says_what_the_conventions_ask() -> None:
    inference = spans_of(finished())[2]

    assert inference.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "muai",
        "gen_ai.request.model": "small",
        "gen_ai.response.model": "small",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 10,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 1.0,
        "muai.request.id": "r1",
        "muai.request.status": "success",
        "muai.engine": "pytorch",
        "muai.batch.size": 5,
        "muai.cached_tokens": 3,
        "muai.ttft_s": 1.0,
        "muai.queue.wait_s": 0.5,
    }


def test_the_queue_says_who_was_there_before() -> None:
    queue = spans_of(finished())[1]

    assert queue.attributes is not None
    assert queue.attributes["muai.queue.num_waiting"] == 4
    assert queue.attributes["muai.queue.num_running"] == 2


def test_a_failover_is_an_event_with_both_engines_and_the_reason() -> None:
    inference = spans_of(finished())[2]

    [failover] = inference.events
    assert (failover.name, failover.timestamp) == ("failover", ns_of(FIRST.ended_s))
    assert failover.attributes == {
        "muai.failover.from_engine": "vllm",
        "muai.failover.to_engine": "pytorch",
        "muai.failover.reason": "it was killed",
    }


@pytest.mark.parametrize(
    ("reached", "failing"),
    [
        ({}, "inference"),
        ({"attempts": ()}, "queue"),
        ({"attempts": (), "routed_s": None, "queue_wait_s": None}, "route"),
    ],
)
@pytest.mark.parametrize(
    "status", [RequestStatus.ERROR, RequestStatus.TIMEOUT, RequestStatus.REJECTED]
)
def test_an_error_stands_where_the_request_had_come_to(
    status: RequestStatus, reached: dict[str, Any], failing: str
) -> None:
    spans = spans_of(finished(status, error_type="EngineFailedError", error=BROKEN, **reached))

    [failed] = [span for span in spans if span.status.status_code is StatusCode.ERROR]
    assert (failed.name, failed.status.description) == (failing, "no memory")
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "EngineFailedError"
    told = failed.events[-1]
    assert (told.name, told.timestamp) == ("exception", failed.end_time)
    assert told.attributes == {
        "exception.type": "EngineFailedError",
        "exception.message": "no memory",
        "exception.stacktrace": "Traceback ...",
    }


def test_a_client_that_leaves_is_no_error() -> None:
    spans = spans_of(finished(RequestStatus.CANCELLED, error=BROKEN, error_type="CancelledError"))

    assert {span.status.status_code for span in spans} == {StatusCode.UNSET}


def test_a_request_that_never_ran_has_waited_to_its_end() -> None:
    spans = spans_of(finished(RequestStatus.TIMEOUT, attempts=(), queue_wait_s=None))

    assert [(span.name, *bounds_s(span)) for span in spans] == [
        ("route", 10.0, 10.1),
        ("queue", 10.0, 13.25),
    ]


def test_an_attempt_has_the_parts_that_it_came_to() -> None:
    unstarted = Attempt(engine="a", submitted_s=10.2, ended_s=10.4, error="hung")
    no_token = Attempt(engine="b", submitted_s=10.5, started_s=10.6, ended_s=10.9, error="died")

    spans = spans_of(finished(attempts=(unstarted, no_token, SECOND)))

    parts = [span for span in spans if span.name in {"prefill", "decode"}]
    assert [(span.name, *bounds_s(span)) for span in parts] == [
        ("prefill", 10.6, 10.9),
        ("prefill", 11.7, 12.0),
        ("decode", 12.0, 13.0),
    ]


def test_what_is_in_no_trace_has_no_spans() -> None:
    assert spans_of(finished(trace=None), exchanged(trace=None)) == []


def test_prompt_and_answers_are_there_only_where_they_were_kept() -> None:
    chat = json.dumps(
        [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    )

    bare = spans_of(finished())[2].attributes
    kept = spans_of(finished(prompt=chat, answers=("Hello", "Ho"), finish_reasons=("stop",)))[2]
    plain = spans_of(finished(prompt="Once", operation="text_completion"))[2]

    assert bare is not None
    assert not {"gen_ai.input.messages", "gen_ai.output.messages"} & set(bare)
    assert read(kept, "gen_ai.input.messages") == [
        {"role": "system", "parts": [{"type": "text", "content": "Be kind."}]},
        {"role": "user", "parts": [{"type": "text", "content": "Hi"}]},
    ]
    assert read(kept, "gen_ai.output.messages") == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "Hello"}],
            "finish_reason": "stop",
        },
        {"role": "assistant", "parts": [{"type": "text", "content": "Ho"}]},
    ]
    assert read(plain, "gen_ai.input.messages") == [
        {"role": "user", "parts": [{"type": "text", "content": "Once"}]}
    ]


def test_content_is_cut_so_that_a_collector_takes_it() -> None:
    kept = spans_of(finished(prompt="x" * 100_000, answers=("y" * 100_000,)))[2]

    [message] = read(kept, "gen_ai.input.messages")
    assert len(message["parts"][0]["content"]) == 16_384


def read(span: ReadableSpan, name: str) -> Any:
    assert span.attributes is not None
    return json.loads(str(span.attributes[name]))


@given(st.text(st.characters(codec=None)))
def test_no_text_keeps_a_span_from_being_sent(text: str) -> None:
    error = ErrorReport(error_type="E", message=text, stack=text)
    lost = Attempt(engine="a", submitted_s=10.2, ended_s=10.4, error=text)

    encode_spans(
        spans_of(
            finished(
                RequestStatus.ERROR,
                error=error,
                attempts=(lost, SECOND),
                prompt=text,
                answers=(text,),
            ),
            exchanged(path=text),
        )
    )


@given(
    begin_s=st.floats(0, 1e7),
    wait_s=st.floats(0, 1e4),
    total_s=st.floats(0, 1e4),
    duration_s=st.floats(0, 1e4),
)
def test_spans_last_as_long_as_the_metrics_say(
    begin_s: float, wait_s: float, total_s: float, duration_s: float
) -> None:
    route, queue, root = spans_of(
        finished(begin_s=begin_s, queue_wait_s=wait_s, total_s=total_s, attempts=(), routed_s=None),
        exchanged(begin_s=begin_s, duration_s=duration_s),
    )

    for span, told_s in ((route, total_s), (queue, wait_s), (root, duration_s)):
        begin, end = span.start_time, span.end_time
        assert begin is not None
        assert end is not None
        assert end - begin == round(told_s * 1e9)

"""The place of an exchange in a trace: taken from the request, kept for the work, told back."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mm_orch.api.settings import ApiSettings
from mm_orch.api.tracing import Traced
from mm_orch.core.trace import CURRENT, TraceContext, parse_trace
from tests.unit.api.face import CHAT, HELLO, Face
from tests.unit.api.scripted_generator import ScriptedGenerator

CALLER = TraceContext(0xABC, 0xDEF, is_sampled=True, state="vendor=1")
OWN = TraceContext(0x123, 0x456, is_sampled=True)
SENT = {"traceparent": CALLER.traceparent, "tracestate": CALLER.state}


def start(parent: TraceContext | None) -> TraceContext:
    return OWN if parent is None else TraceContext(parent.trace_id, 0x789, parent.is_sampled)


async def test_a_request_without_a_trace_begins_one_and_is_told_of_it() -> None:
    face = Face(start_trace=start)

    response = await face.call("POST", CHAT, HELLO, headers={"X-Request-ID": "mine"})

    assert response.headers["traceparent"] == OWN.traceparent
    [told] = face.observer.exchanges()
    assert (told.trace, told.parent_span_id, told.request_id) == (OWN, 0, "mine")
    assert told.begin_s > 0


async def test_a_request_of_a_trace_becomes_a_part_of_it() -> None:
    face = Face(start_trace=start)

    response = await face.call("POST", CHAT, HELLO, headers=SENT)

    own = parse_trace(response.headers["traceparent"])
    assert own == TraceContext(CALLER.trace_id, 0x789, is_sampled=True)
    [told] = face.observer.exchanges()
    assert (told.trace, told.parent_span_id) == (own, CALLER.span_id)


async def test_without_tracing_a_callers_trace_is_passed_on_as_it_is() -> None:
    face = Face()

    with_one = await face.call("POST", CHAT, HELLO, headers=SENT)
    without = await face.call("POST", CHAT, HELLO)

    assert with_one.headers["traceparent"] == CALLER.traceparent
    assert "traceparent" not in without.headers
    assert [told.trace for told in face.observer.exchanges()] == [CALLER, None]


@pytest.mark.parametrize(
    "headers",
    [
        [("traceparent", "garbage")],
        [("traceparent", CALLER.traceparent), ("traceparent", CALLER.traceparent)],
        [("tracestate", "vendor=1")],
        [("traceparent", "00-\xe4")],
    ],
)
async def test_a_header_that_says_nothing_usable_begins_a_trace(
    headers: list[tuple[str, str]],
) -> None:
    sent = [(name.encode(), value.encode("latin-1")) for name, value in headers]

    assert await seen_inside(sent) == OWN


@pytest.mark.parametrize(
    ("states", "kept"),
    [
        (["a=1"], "a=1"),
        (["a=1", "b=2"], "a=1,b=2"),
        (["a=" + "x" * 511], ""),
        (["a=\xe4"], ""),
    ],
)
async def test_the_callers_state_is_passed_on_within_its_bound(
    states: list[str], kept: str
) -> None:
    sent = [(b"traceparent", CALLER.traceparent.encode())]
    sent += [(b"tracestate", state.encode("latin-1")) for state in states]

    trace = await seen_inside(sent, has_tracing=False)

    assert trace is not None
    assert trace.state == kept


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/live"), ("GET", "/v1/models"), ("OPTIONS", CHAT)]
)
async def test_what_is_polled_joins_a_trace_but_begins_none(method: str, path: str) -> None:
    face = Face(start_trace=start)

    alone = await face.call(method, path)
    joined = await face.call(method, path, headers=SENT)

    assert "traceparent" not in alone.headers
    assert "traceparent" in joined.headers


async def test_a_refusal_and_a_fault_of_ours_stand_in_their_trace_too() -> None:
    faulty = Face(ScriptedGenerator([ZeroDivisionError()]), start_trace=start)

    response = await faulty.call("POST", CHAT, HELLO)

    assert (response.status_code, response.headers["traceparent"]) == (500, OWN.traceparent)
    assert [told.trace for told in faulty.observer.exchanges()] == [OWN]


async def test_a_page_of_an_allowed_origin_may_read_its_trace() -> None:
    face = Face(settings=ApiSettings(cors_origins=("https://page.example",)), start_trace=start)

    response = await face.call("POST", CHAT, HELLO, headers={"Origin": "https://page.example"})

    assert "Traceparent" in response.headers["access-control-expose-headers"]


async def test_one_exchange_leaves_nothing_to_the_next_in_its_context() -> None:
    CURRENT.set(CALLER)

    assert await seen_inside([], has_tracing=False) is None
    assert CURRENT.get() == CALLER


async def seen_inside(
    headers: list[tuple[bytes, bytes]], *, has_tracing: bool = True
) -> TraceContext | None:
    """The trace in which work that an exchange has begun finds itself, in a task of its own."""
    seen: list[TraceContext | None] = []

    async def look() -> None:
        seen.append(CURRENT.get())

    async def app(_scope: object, _receive: object, _send: object) -> None:
        await asyncio.create_task(look())

    async def nothing(*_: object) -> None:
        """Nobody listens."""

    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "state": {}}
    await Traced(app, start if has_tracing else None)(scope, nothing, nothing)
    return seen[0]


async def test_the_frameworks_own_spans_never_double_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: provider)

    await Face().call("GET", "/live")

    assert exporter.get_finished_spans() == ()

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.core.trace import TraceContext, parse_trace

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


TRACES = st.builds(
    TraceContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.sampled_from(["", "vendor=1"]),
)


@given(TRACES)
def test_what_is_written_is_read_again(trace: TraceContext) -> None:
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", trace.traceparent)
    assert parse_trace(trace.traceparent, trace.state) == trace


@given(st.text())
def test_any_text_is_read_or_not_and_raises_nothing(text: str) -> None:
    assert parse_trace(text) is None


@pytest.mark.parametrize(
    "header",
    [
        "",
        TRACE,
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}x-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
    ],
)
def test_what_is_not_valid_is_no_trace(header: str) -> None:
    assert parse_trace(header) is None


@pytest.mark.parametrize(
    ("header", "written"),
    [
        (f"00-{TRACE}-{SPAN}-01", "01"),
        (f"00-{TRACE}-{SPAN}-00", "00"),
        (f" 00-{TRACE}-{SPAN}-03 ", "01"),
        (f"01-{TRACE}-{SPAN}-02-what-the-future-adds", "00"),
    ],
)
def test_the_lowest_flag_alone_says_whether_it_is_recorded(header: str, written: str) -> None:
    trace = parse_trace(header)

    assert trace is not None
    assert trace.traceparent == f"00-{TRACE}-{SPAN}-{written}"

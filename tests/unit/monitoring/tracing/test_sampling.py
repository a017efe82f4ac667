from __future__ import annotations

import math
import random

import pytest

from mm_orch.core.trace import TraceContext
from mm_orch.monitoring.tracing.sampling import Sampler

NUM_TRACES = 20_000
# A true rate is missed by more once in some ten thousand seeds; the seed is fixed.
NUM_DEVIATIONS = 4


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 1.0])
def test_the_share_asked_for_is_recorded(rate: float) -> None:
    sampler = Sampler(rate, random.Random(7))  # noqa: S311 - no secrets

    num_sampled = sum(sampler.start(None).is_sampled for _ in range(NUM_TRACES))

    deviation = math.sqrt(NUM_TRACES * rate * (1 - rate))
    assert abs(num_sampled - NUM_TRACES * rate) <= NUM_DEVIATIONS * deviation


@pytest.mark.parametrize("rate", [0.0, 1.0])
@pytest.mark.parametrize("is_sampled", [False, True])
def test_a_callers_decision_counts_and_its_trace_goes_on(rate: float, is_sampled: bool) -> None:  # noqa: FBT001 - from the table
    caller = TraceContext(7, 8, is_sampled, "vendor=1")

    own = Sampler(rate).start(caller)

    assert (own.trace_id, own.is_sampled, own.state) == (7, is_sampled, "vendor=1")
    assert own.span_id not in {0, 8}


def test_the_decision_is_the_one_that_opentelemetry_would_make() -> None:
    from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

    theirs, ours = TraceIdRatioBased(0.3), Sampler(0.3)

    for _ in range(1000):
        trace = ours.start(None)
        decision = theirs.should_sample(None, trace.trace_id, "request").decision
        assert trace.is_sampled is (decision is Decision.RECORD_AND_SAMPLE)


def test_no_two_traces_are_the_same() -> None:
    sampler = Sampler(1.0)
    traces = [sampler.start(None) for _ in range(1000)]

    assert len({trace.trace_id for trace in traces}) == 1000
    assert len({trace.span_id for trace in traces}) == 1000
    assert all(0 < trace.trace_id < 2**128 and 0 < trace.span_id < 2**64 for trace in traces)

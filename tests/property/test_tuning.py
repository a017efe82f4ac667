"""Whatever windows say, the tuner's steps stay small, few and within their bounds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mm_orch.tuning.decisions import DecisionKind
from mm_orch.tuning.knobs import BATCH_SIZE, KNOBS, MAX_FACTOR
from mm_orch.tuning.readings import Reading, StepCosts
from tests.tuning_simulation import make_policy, make_setting

SECONDS = st.none() | st.floats(0.01, 60)
READINGS = st.builds(
    Reading,
    span_s=st.just(15.0),
    num_arrived=st.integers(0, 500),
    num_succeeded=st.integers(0, 200),
    num_failed=st.integers(0, 3),
    num_rejected=st.integers(0, 300),
    tokens_per_s=st.floats(0, 1000),
    latency_p50_s=SECONDS,
    latency_p95_s=SECONDS,
    ttft_p95_s=SECONDS,
    queue_wait_p95_s=SECONDS,
    service_p95_s=SECONDS,
    num_waiting=st.floats(0, 200),
    num_running=st.floats(0, 64),
    batch_size_mean=st.none() | st.floats(1, 64),
    busy_ratio=st.floats(0, 1),
    step_costs=st.none()
    | st.builds(StepCosts, fixed_s=st.floats(1e-4, 0.1), per_sequence_s=st.floats(0, 0.01)),
    kv_use_ratio=st.none() | st.floats(0, 1),
    memory_use_ratio=st.none() | st.floats(0, 1),
)
# Windows of the same kind, so that trials come to an end.
RUNS = st.lists(st.tuples(READINGS, st.integers(1, 12)), max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    runs=RUNS,
    target_s=st.none() | st.floats(0.1, 30),
    tunable=st.frozensets(st.sampled_from(sorted(KNOBS))),
    min_batch_size=st.integers(1, 8),
)
def test_at_most_one_option_is_tried_at_a_time_within_its_bounds(
    runs: list[tuple[Reading, int]],
    target_s: float | None,
    tunable: frozenset[str],
    min_batch_size: int,
) -> None:
    policy, setting = make_policy(target_s), make_setting()
    for reading in (one for one, count in runs for _ in range(count)):
        decisions = policy.take(reading, setting, tunable=tunable, min_batch_size=min_batch_size)
        changing = [decision for decision in decisions if decision.changes]
        assert len(changing) <= 1
        assert reading.has_traffic or not decisions
        for decision in changing:
            assert decision.rationale
            assert decision.changes.keys() <= tunable
            assert decision.old == {key: setting[key] for key in decision.changes}
            for key, value in decision.changes.items():
                assert KNOBS[key].low <= value <= KNOBS[key].high
            assert decision.changes.get(BATCH_SIZE, min_batch_size) >= min_batch_size
            if decision.kind is DecisionKind.TRY:
                [(key, value)] = decision.changes.items()
                assert setting[key] // MAX_FACTOR <= value <= max(1, setting[key] * MAX_FACTOR)
            setting.update(decision.changes)

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.monitoring.alerts.alert import Identity, Severity
from mm_orch.monitoring.alerts.figures import Figures, MemoryFigures, ModelFigures, QueueFigures
from mm_orch.monitoring.alerts.thresholds import Thresholds, find_breaches, severity_of

LIMITS = Thresholds(
    latency_threshold_ms=1000,
    error_rate_threshold=0.05,
    memory_threshold_percent=90,
    throughput_threshold_rps=1.0,
)
OFF = Thresholds()
WARNING, ERROR, CRITICAL = Severity


def of_model(**values: float) -> Figures:
    return Figures(models=(replace(ModelFigures(model="m", engine="e"), **values),))  # type: ignore[arg-type] - by name


def of_queue(num_waiting: int, waiting_s: float, throughput_rps: float) -> Figures:
    queue = QueueFigures(
        model="m", num_waiting=num_waiting, waiting_s=waiting_s, throughput_rps=throughput_rps
    )
    return Figures(queues=(queue,))


def of_memory(**used_ratio: float) -> Figures:
    places = (MemoryFigures(place=key, used_ratio=used) for key, used in used_ratio.items())
    return Figures(memory=tuple(places))


def severities(figures: Figures, limits: Thresholds = LIMITS) -> list[Severity]:
    return [breach.severity for breach in find_breaches(figures, limits)]


@pytest.mark.parametrize(
    ("ratio", "severity"),
    [
        (0.0, None),
        (1.0, None),
        (1.001, WARNING),
        (2.0, WARNING),
        (2.001, ERROR),
        (3.0, ERROR),
        (3.001, CRITICAL),
        (math.inf, CRITICAL),
    ],
)
def test_severity_grows_with_the_multiple_of_the_limit(
    ratio: float, severity: Severity | None
) -> None:
    assert severity_of(ratio) is severity


def test_severities_are_ordered() -> None:
    assert WARNING < ERROR < CRITICAL
    assert max(WARNING, CRITICAL, ERROR) is CRITICAL


@pytest.mark.parametrize(
    ("num_succeeded", "p95_s", "expected"),
    [
        (20, 1.0, []),
        (20, 1.5, [WARNING]),
        (20, 2.5, [ERROR]),
        (20, 9.0, [CRITICAL]),
        (19, 9.0, []),
        (0, None, []),
    ],
)
def test_latency_is_judged_by_its_percentile_of_enough_requests(
    num_succeeded: int, p95_s: float, expected: list[Severity]
) -> None:
    assert severities(of_model(num_succeeded=num_succeeded, latency_p95_s=p95_s)) == expected


@pytest.mark.parametrize(
    ("num_succeeded", "num_failed", "expected"),
    [
        (95, 5, []),
        (94, 6, [WARNING]),
        (89, 11, [ERROR]),
        (80, 20, [CRITICAL]),
        (0, 20, [CRITICAL]),
        (0, 19, []),
        (18, 1, []),
        (0, 0, []),
    ],
)
def test_the_share_of_failed_requests_is_judged_once_there_are_enough(
    num_succeeded: int, num_failed: int, expected: list[Severity]
) -> None:
    assert severities(of_model(num_succeeded=num_succeeded, num_failed=num_failed)) == expected


def test_where_no_error_is_allowed_one_is_critical() -> None:
    limits = replace(OFF, error_rate_threshold=0.0)

    assert severities(of_model(num_succeeded=99, num_failed=1), limits) == [CRITICAL]
    assert severities(of_model(num_succeeded=99), limits) == []


@pytest.mark.parametrize(
    ("used_ratio", "expected"),
    [(0.9, []), (0.91, [WARNING]), (0.95, [ERROR]), (0.995, [CRITICAL])],
)
def test_memory_has_steps_of_its_own(used_ratio: float, expected: list[Severity]) -> None:
    assert severities(of_memory(host=used_ratio)) == expected


def test_the_fullest_memory_decides_and_all_that_are_over_are_named() -> None:
    figures = Figures(memory=of_memory(host=0.92).memory + tuple(of_memory(**{"0": 0.96}).memory))

    [breach] = find_breaches(figures, LIMITS)

    assert breach.severity is ERROR
    assert breach.message == "memory in use is over 90%: host 92.0%, GPU 0 96.0%"


@pytest.mark.parametrize(
    ("num_waiting", "waiting_s", "throughput_rps", "expected"),
    [
        (1, 60, 1.0, []),
        (1, 60, 0.9, [WARNING]),
        (1, 60, 0.4, [ERROR]),
        (1, 60, 0.3, [CRITICAL]),
        (1, 60, 0.0, [CRITICAL]),
        (0, 0, 0.0, []),
        (1, 19, 0.0, []),
    ],
)
def test_throughput_is_low_only_while_requests_have_waited_for_some_time(
    num_waiting: int, waiting_s: float, throughput_rps: float, expected: list[Severity]
) -> None:
    assert severities(of_queue(num_waiting, waiting_s, throughput_rps)) == expected


def test_a_small_limit_is_judged_after_a_window_at_the_latest() -> None:
    limits = replace(OFF, throughput_threshold_rps=0.01)

    assert severities(of_queue(1, 299, 0.0), limits) == []
    assert severities(of_queue(1, 300, 0.0), limits) == [CRITICAL]


def test_a_message_says_what_is_where_and_over_what() -> None:
    figures = of_model(num_succeeded=30, num_failed=10, latency_p95_s=2.345)

    assert [breach.message for breach in find_breaches(figures, LIMITS)] == [
        "95th percentile latency of m on e is 2.35 s, over 1 s",
        "10 of 40 requests to m on e failed (25.0%), over 5.0%",
    ]


def test_nothing_is_found_where_every_kind_is_off() -> None:
    figures = replace(
        of_model(num_succeeded=50, num_failed=50, latency_p95_s=900.0),
        queues=of_queue(9, 900, 0.0).queues,
        memory=of_memory(host=1.0).memory,
    )

    assert find_breaches(figures, OFF) == []
    assert len(find_breaches(figures, LIMITS)) == 4


@given(
    p95_s=st.floats(0.001, 1000),
    num_succeeded=st.integers(0, 500),
    num_failed=st.integers(0, 500),
    worse=st.floats(1, 10),
)
def test_worse_figures_are_never_judged_milder(
    p95_s: float, num_succeeded: int, num_failed: int, worse: float
) -> None:
    def grades(factor: float) -> dict[str, Severity]:
        figures = of_model(
            num_succeeded=num_succeeded,
            num_failed=int(num_failed * factor),
            latency_p95_s=p95_s * factor,
        )
        found = find_breaches(figures, LIMITS)
        return {breach.identity.alert_type: breach.severity for breach in found}

    before, after = grades(1), grades(worse)
    assert all(after[kind] >= severity for kind, severity in before.items())


@pytest.mark.parametrize(
    ("used_ratio", "severity"), [(0.93, None), (0.955, Severity.WARNING), (1.0, Severity.ERROR)]
)
def test_memory_that_an_engine_reserves_by_design_is_no_trouble(
    used_ratio: float, severity: Severity | None
) -> None:
    gpu = MemoryFigures(place="0", used_ratio=used_ratio, reserved_ratio=0.9)

    found = find_breaches(Figures(memory=(gpu,)), Thresholds(memory_threshold_percent=90.0))

    assert [breach.severity for breach in found] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("num_failed", "num_succeeded", "goes_on"), [(3, 0, True), (0, 3, False), (0, 0, False)]
)
def test_an_alert_goes_on_while_the_few_that_end_still_fail(
    num_failed: int, num_succeeded: int, *, goes_on: bool
) -> None:
    model = ModelFigures(model="m", engine="e", num_succeeded=num_succeeded, num_failed=num_failed)
    figures, limits = Figures(models=(model,)), Thresholds(error_rate_threshold=0.05)
    identity = Identity("high_error_rate", "m", "e")

    assert find_breaches(figures, limits) == []
    found = find_breaches(figures, limits, {identity})
    assert [breach.identity for breach in found] == ([identity] if goes_on else [])


def test_gpus_that_have_failed_are_critical_and_each_is_named() -> None:
    figures = Figures(fault_by_gpu={"0": "is lost", "3": "has reported Xid 79"})

    [breach] = find_breaches(figures, OFF)

    assert (breach.identity, breach.severity) == (Identity("gpu_failed"), CRITICAL)
    assert breach.message == "GPU 0 is lost; GPU 3 has reported Xid 79"
    assert find_breaches(Figures(), LIMITS) == []

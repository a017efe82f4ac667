from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mm_orch.optimization.circuit import Circuit, CircuitState


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_fault_opens_it_and_time_half_opens_it() -> None:
    clock = Clock()
    circuit = Circuit(clock)
    assert circuit.state is CircuitState.CLOSED

    circuit.trip("it crashed")
    assert circuit.state is CircuitState.OPEN
    assert circuit.reason == "it crashed"

    clock.now_s += circuit.wait_s
    assert circuit.state is CircuitState.HALF_OPEN
    assert circuit.wait_s == 0

    circuit.close()
    assert circuit.state is CircuitState.CLOSED
    assert circuit.reason == ""


def test_each_failure_in_a_row_doubles_the_wait_even_after_a_start_that_succeeded() -> None:
    circuit = Circuit(Clock())
    waits = []
    for _ in range(4):
        circuit.trip("again")
        waits.append(circuit.wait_s)
        circuit.close()

    assert waits == [0.5, 1, 2, 4]


def test_a_long_life_forgives_what_was_before() -> None:
    circuit = Circuit(Clock())
    for _ in range(4):
        circuit.trip("again")

    circuit.trip("after an hour", lived_s=3600)

    assert circuit.wait_s == 0.5


def test_a_start_that_took_long_before_it_failed_is_not_tried_often() -> None:
    circuit = Circuit(Clock())

    circuit.trip("the weights do not fit", cost_s=60)

    assert circuit.wait_s == 240


def test_three_requests_in_a_row_open_it_and_a_success_between_starts_anew() -> None:
    circuit = Circuit(Clock())

    opened = [circuit.count_step_fault("a"), circuit.count_step_fault("b")]
    circuit.record_success()
    opened += [circuit.count_step_fault(name) for name in "cde"]

    assert opened == [False, False, False, False, True]
    assert circuit.reason == "e"


@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e5)), max_size=40))
def test_no_wait_is_longer_than_ten_minutes(faults: list[tuple[float, float]]) -> None:
    clock = Clock()
    circuit = Circuit(clock)
    for cost_s, pause_s in faults:
        circuit.trip("again", cost_s=cost_s)
        assert 0 < circuit.wait_s <= 600.001
        clock.now_s += pause_s

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.core.errors import DrainingError, QueueFullError
from mm_orch.orchestration.admission import Admission
from mm_orch.orchestration.drain_rate import DrainRate

if TYPE_CHECKING:
    from mm_orch.orchestration.ticket import Ticket


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_one_more_than_the_capacity_is_refused_at_once() -> None:
    admission = Admission(2, Clock())
    admission.enter("m")
    admission.enter("m")

    with pytest.raises(
        QueueFullError, match=r"2 requests are waiting and monitoring\.server\.queue_capacity"
    ):
        admission.enter("m")


def test_a_request_that_starts_makes_room_in_the_queue() -> None:
    admission = Admission(1, Clock())
    admission.start(admission.enter("m"))

    admission.enter("m")

    assert (admission.num_running, admission.num_waiting) == (1, 1)


def test_a_draining_system_takes_nothing_new() -> None:
    admission = Admission(9, Clock())
    admission.is_draining = True

    with pytest.raises(DrainingError):
        admission.enter("m")


def test_a_draining_model_takes_nothing_new_and_others_go_on() -> None:
    admission = Admission(9, Clock())
    admission.draining_models.add("m")

    with pytest.raises(DrainingError, match="Model m is being drained"):
        admission.enter("m")
    admission.enter("n")
    admission.draining_models.discard("m")
    admission.enter("m")

    assert admission.num_waiting == 2


def test_retry_after_follows_the_measured_rate() -> None:
    clock = Clock()
    admission = Admission(1, clock)
    for _ in range(5):
        ticket = admission.enter("m")
        admission.start(ticket)
        clock.now_s += 4
        admission.leave(ticket)
    admission.enter("m")

    with pytest.raises(QueueFullError) as refusal:
        admission.enter("m")

    # One request left every four seconds, so a place is free in four.
    assert refusal.value.retry_after_s == pytest.approx(4.0)


def test_before_any_rate_is_known_the_age_of_the_oldest_counts() -> None:
    clock = Clock()
    admission = Admission(1, clock)
    admission.enter("m")
    clock.now_s += 17

    with pytest.raises(QueueFullError) as refusal:
        admission.enter("m")

    assert refusal.value.retry_after_s == pytest.approx(17.0)


@given(
    st.lists(st.sampled_from(["enter", "start", "leave"]), max_size=60),
    st.integers(1, 4),
    st.data(),
)
def test_counts_are_right_after_any_history(
    steps: list[str], capacity: int, data: st.DataObject
) -> None:
    admission = Admission(capacity, Clock())
    inside: list[Ticket] = []
    for step in steps:
        if step == "enter":
            try:
                inside.append(admission.enter(data.draw(st.sampled_from(["a", "b"]))))
            except QueueFullError:
                assert admission.num_waiting == capacity
        elif inside:
            ticket = data.draw(st.sampled_from(inside))
            if step == "start":
                admission.start(ticket)
            else:
                admission.leave(ticket)
                inside.remove(ticket)
        assert admission.num_running == sum(ticket.is_running for ticket in inside)
        assert admission.num_waiting == len(inside) - admission.num_running <= capacity
        for model in ("a", "b"):
            of_model = [ticket for ticket in inside if ticket.model == model]
            assert admission.count_running(model) == sum(t.is_running for t in of_model)
            assert admission.count_waiting(model) == sum(not t.is_running for t in of_model)


def test_a_stalled_system_has_a_falling_rate() -> None:
    rate = DrainRate()
    for second in range(10):
        rate.record_end(float(second))

    rates = [rate.find_rate(now_s) for now_s in (9.0, 20.0, 40.0)]

    assert rates == [pytest.approx(1.0), pytest.approx(9 / 20), pytest.approx(9 / 40)]
    assert rate.find_rate(200.0) is None

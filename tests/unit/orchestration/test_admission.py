from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.core.errors import DeadlineTooSoonError, DrainingError, QueueFullError
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


def test_a_queue_full_of_lower_priorities_keeps_out_nobody_above_them() -> None:
    admission = Admission(2, Clock())
    admission.enter("m")
    admission.enter("n", caller="other")

    urgent = admission.enter("m", priority=1)
    with pytest.raises(QueueFullError):
        admission.enter("m")
    admission.start(urgent)
    with pytest.raises(QueueFullError):
        admission.enter("m", priority=-1)

    assert admission.num_waiting == 2


def test_a_priority_has_a_full_queue_of_its_own_and_all_have_two() -> None:
    admission = Admission(2, Clock())
    for priority in (0, 0, 1, 1):
        admission.enter("m", priority=priority)

    with pytest.raises(QueueFullError, match="4 requests are waiting"):
        admission.enter("m", priority=1)
    with pytest.raises(QueueFullError):
        admission.enter("m", priority=2)


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


def test_a_run_waits_in_one_place_with_its_first_request() -> None:
    admission = Admission(1, Clock())
    run = admission.enter_run("m")
    with pytest.raises(QueueFullError):
        admission.enter_run("m")

    first = admission.enter("m", run=run)
    assert (admission.num_waiting, admission.num_runs) == (1, 1)
    admission.start(first)
    admission.leave(first)

    assert (admission.num_waiting, admission.num_running, admission.num_runs) == (0, 0, 1)
    admission.leave_run(run)
    assert admission.num_runs == 0


def test_what_belongs_to_a_run_is_taken_while_the_queue_is_full_or_the_server_drains() -> None:
    admission = Admission(1, Clock())
    run = admission.enter_run("m")
    admission.start(admission.enter("m", run=run))
    admission.enter("m")

    admission.enter("m", run=run)
    admission.is_draining = True
    admission.enter("other", run=run)

    with pytest.raises(DrainingError):
        admission.enter("m")
    admission.leave_run(run)
    # It is over, and so is its right.
    with pytest.raises(DrainingError):
        admission.enter("m", run=run)


def test_a_run_that_asks_no_model_gives_its_place_back() -> None:
    admission = Admission(1, Clock())

    admission.leave_run(admission.enter_run("m"))

    assert admission.num_waiting == 0
    admission.enter("m")


def test_runs_that_are_broken_off_are_refused_as_everybody_else_is() -> None:
    admission = Admission(9, Clock())
    run = admission.enter_run("m")
    admission.is_draining = True
    admission.refuse_runs()

    with pytest.raises(DrainingError):
        admission.enter("m", run=run)
    admission.leave_run(run)
    assert (admission.num_waiting, admission.num_runs) == (0, 0)


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


def count_waiting(inside: list[Ticket], priority: int) -> int:
    """Requests of this priority or a higher one that wait."""
    return sum(not one.is_running and one.priority >= priority for one in inside)


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
            model, priority = data.draw(st.tuples(st.sampled_from("ab"), st.integers(-1, 1)))
            try:
                inside.append(admission.enter(model, priority=priority))
            except QueueFullError:
                assert count_waiting(inside, priority) >= capacity or len(inside) >= 2 * capacity
        elif inside:
            ticket = data.draw(st.sampled_from(inside))
            if step == "start":
                admission.start(ticket)
            else:
                admission.leave(ticket)
                inside.remove(ticket)
        assert admission.num_running == sum(ticket.is_running for ticket in inside)
        assert admission.num_waiting == len(inside) - admission.num_running <= 2 * capacity
        # Above all others, nobody comes in beside them.
        assert count_waiting(inside, 1) <= capacity
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


class Busy:
    """A model that lets one request go a second while others wait for it."""

    def __init__(self, *, capacity: int = 99) -> None:
        self.clock = Clock()
        self.admission = Admission(capacity, self.clock)

    def drain(self, model: str, num_ends: int, *, every_s: float = 1.0) -> None:
        for _ in range(num_ends):
            ticket = self.admission.enter(model)
            self.admission.start(ticket)
            self.clock.now_s += every_s
            self.admission.leave(ticket)


def test_a_deadline_that_the_queue_cannot_meet_is_refused_with_when_it_could() -> None:
    busy = Busy()
    for _ in range(30):
        busy.admission.enter("m")
    busy.drain("m", 9)

    with pytest.raises(DeadlineTooSoonError, match=r"30 requests go before") as refusal:
        busy.admission.enter("m", timeout_s=20.0)

    assert refusal.value.retry_after_s == pytest.approx(10.0, abs=0.1)
    busy.admission.enter("m", timeout_s=31.0)


def test_nobody_is_refused_for_a_deadline_on_slight_grounds() -> None:
    few = Busy()
    for _ in range(30):
        few.admission.enter("m")
    few.drain("m", 7)
    few.admission.enter("m", timeout_s=0.1)

    # Many have left, but when nobody waited: the time between them says nothing.
    idle = Busy()
    idle.drain("m", 20)
    for _ in range(30):
        idle.admission.enter("m")
    idle.admission.enter("m", timeout_s=0.1)

    # What was measured of an earlier queue does not count for the next one.
    late = Busy()
    first = late.admission.enter("m")
    late.drain("m", 20)
    late.admission.leave(first)
    late.admission.enter("m")
    late.admission.enter("m", timeout_s=0.1)


def test_a_higher_priority_and_another_caller_have_fewer_before_them() -> None:
    busy = Busy()
    for _ in range(30):
        busy.admission.enter("m", caller="many")
    busy.drain("m", 9)

    busy.admission.enter("m", caller="many", priority=1, timeout_s=2.0)
    busy.admission.enter("m", caller="one", timeout_s=3.0)
    with pytest.raises(DeadlineTooSoonError):
        busy.admission.enter("m", caller="many", timeout_s=3.0)


def test_one_models_pace_says_nothing_of_anothers() -> None:
    busy = Busy(capacity=3)
    busy.drain("quick", 10, every_s=0.1)
    busy.drain("slow", 5, every_s=8.0)
    for _ in range(3):
        busy.admission.enter("slow")

    with pytest.raises(QueueFullError) as refusal:
        busy.admission.enter("quick")

    # The places are held by the slow one's requests.
    assert refusal.value.retry_after_s == pytest.approx(8.0)


def test_those_that_are_refused_are_told_to_return_one_after_another() -> None:
    busy = Busy(capacity=4)
    busy.drain("m", 9, every_s=2.0)
    for _ in range(4):
        busy.admission.enter("m")

    def refused_for_s() -> float:
        with pytest.raises(QueueFullError) as refusal:
            busy.admission.enter("m")
        return round(refusal.value.retry_after_s, 6)

    # No more than what it takes until the whole queue is another one.
    assert [refused_for_s() for _ in range(7)] == [2.0, 4.0, 6.0, 8.0, 10.0, 10.0, 10.0]


@given(st.lists(st.floats(0, 100), max_size=100), st.integers(1, 30), st.floats(0, 200))
def test_retry_after_is_always_between_one_second_and_two_minutes(
    gaps_s: list[float], num_refused: int, later_s: float
) -> None:
    busy = Busy(capacity=1)
    for gap_s in gaps_s:
        busy.drain("m", 1, every_s=gap_s)
    busy.admission.enter("m")
    busy.clock.now_s += later_s

    for _ in range(num_refused):
        with pytest.raises(QueueFullError) as refusal:
            busy.admission.enter("m")
        assert 1.0 <= refusal.value.retry_after_s <= 120.0

"""Places that are kept for those that come back when they were told to."""

from __future__ import annotations

import pytest

from mm_orch.core.errors import DeadlineTooSoonError, QueueFullError
from tests.unit.orchestration.test_admission import Busy


def refuse(busy: Busy, content: str, *, caller: str = "") -> float:
    """Have a request refused; return when it may come back."""
    with pytest.raises(QueueFullError) as refusal:
        busy.admission.enter("m", caller=caller, content=content)
    return busy.clock.now_s + refusal.value.retry_after_s


def fill(busy: Busy, *, capacity: int) -> None:
    busy.drain("m", 9, every_s=2.0)
    for number in range(capacity):
        busy.admission.enter("m", content=f"earlier {number}")


def test_who_comes_back_when_told_to_finds_a_place_that_newcomers_do_not() -> None:
    busy = Busy(capacity=4)
    fill(busy, capacity=4)
    busy.clock.now_s = refuse(busy, "mine")

    refuse(busy, "another")
    busy.admission.enter("m", content="mine")

    assert busy.admission.num_waiting == 5


@pytest.mark.parametrize(
    ("content", "caller", "late_s"),
    [("mine", "me", -0.5), ("mine", "me", 61.0), ("mine", "you", 0.0), ("other", "me", 0.0)],
    ids=["too early", "too late", "another caller", "another question"],
)
def test_a_kept_place_is_for_those_alone_that_were_told_to_come(
    content: str, caller: str, late_s: float
) -> None:
    busy = Busy(capacity=4)
    fill(busy, capacity=4)

    busy.clock.now_s = refuse(busy, "mine", caller="me") + late_s

    refuse(busy, content, caller=caller)


def test_a_promise_is_kept_once_and_only_for_as_many_as_there_are_places() -> None:
    busy = Busy(capacity=8)
    fill(busy, capacity=8)
    moments_s = [refuse(busy, f"patient {number}") for number in range(3)]
    busy.clock.now_s = max(moments_s)

    for number in range(2):
        busy.admission.enter("m", content=f"patient {number}")
    refuse(busy, "patient 2")

    assert busy.admission.num_waiting == 10
    busy.clock.now_s += 1
    refuse(busy, "patient 0")


def test_a_promise_that_was_kept_is_forgotten() -> None:
    busy = Busy(capacity=4)
    fill(busy, capacity=4)
    busy.clock.now_s = refuse(busy, "mine")
    busy.admission.start(busy.admission.enter("m", content="mine"))

    refuse(busy, "mine")


def test_equal_requests_each_have_a_place_kept() -> None:
    busy = Busy(capacity=8)
    fill(busy, capacity=8)
    moments_s = [refuse(busy, "the same"), refuse(busy, "the same")]

    for moment_s in moments_s:
        busy.clock.now_s = moment_s
        busy.admission.enter("m", content="the same")

    assert busy.admission.num_waiting == 10


def test_a_deadline_that_cannot_be_met_costs_no_promise() -> None:
    busy = Busy(capacity=4)
    for number in range(3):
        busy.admission.enter("m", content=f"earlier {number}")
    busy.drain("m", 9, every_s=2.0)
    busy.admission.enter("m", content="earlier 3")
    busy.clock.now_s = refuse(busy, "mine")

    with pytest.raises(DeadlineTooSoonError):
        busy.admission.enter("m", content="mine", timeout_s=0.001)
    busy.admission.enter("m", content="mine")


def test_many_refusals_of_one_caller_push_out_nobody_elses() -> None:
    busy = Busy(capacity=4)
    fill(busy, capacity=4)
    moment_s = refuse(busy, "mine", caller="me")
    for number in range(1000):
        refuse(busy, f"flood {number}", caller="flood")
    busy.clock.now_s = moment_s

    busy.admission.enter("m", caller="me", content="mine")

"""How many replicas a model is to have: tables of windows, and what follows from them."""

from __future__ import annotations

import pytest

from mm_orch.autoscaling.policy import CATCH_UP_S, SPARE_RATIO, ScalingPolicy
from mm_orch.autoscaling.readings import Decision, Direction, Goals, Reading
from mm_orch.optimization.replicas.layout import ReplicaRange

SPAN_S = 2.0
GOALS = Goals(target_wait_s=2.0, quiet_s=60.0)
BOUNDS = ReplicaRange(1, 4)


def short(num_serving: int = 1, **changes: object) -> Reading:
    """Eight wait and four begin in two seconds: each waits four."""
    values: dict[str, object] = {
        "span_s": SPAN_S,
        "num_serving": num_serving,
        "num_wanted": num_serving,
        "num_waiting": 8.0,
        "num_waiting_now": 0,
        "num_running": 8.0,
        "num_begun": 4,
        "num_arrived": 5,
        "num_tokens": 400 * num_serving,
        "num_places": 16,
    }
    return Reading(**(values | changes))  # type: ignore[arg-type]  # one table of mixed values


def quiet(num_serving: int, **changes: object) -> Reading:
    calm: dict[str, object] = {"num_waiting": 0.0, "num_running": 1.0, "num_tokens": 20}
    return short(num_serving, **(calm | changes))


class Course:
    """One policy, and a clock that goes on by a window with each reading."""

    def __init__(self, bounds: ReplicaRange = BOUNDS, goals: Goals = GOALS) -> None:
        self.policy = ScalingPolicy()
        self.bounds = bounds
        self.goals = goals
        self.now_s = 1000.0

    def take(self, *readings: Reading) -> list[Decision | None]:
        decided = []
        for reading in readings:
            self.now_s += reading.span_s
            decided.append(self.policy.take(reading, self.bounds, self.goals, self.now_s))
        return decided

    def last(self, *readings: Reading) -> Decision | None:
        return self.take(*readings)[-1]


def as_move(decision: Decision | None) -> tuple[str, int] | None:
    return None if decision is None else (decision.direction.value, decision.count)


@pytest.mark.parametrize(
    ("reading", "move"),
    [
        pytest.param(short(), ("up", 2), id="they wait too long"),
        pytest.param(short(num_waiting=4.0), None, id="they wait for as long as they may"),
        pytest.param(
            short(num_waiting=0.9, num_running=0.1, num_begun=0),
            None,
            id="another would have nothing to do",
        ),
        pytest.param(short(2, num_arrived=5), ("up", 3), id="as many as come"),
        pytest.param(
            short(2, num_arrived=4, num_waiting_now=int(CATCH_UP_S * 2)),
            ("up", 4),
            id="as many as soon begin what waits",
        ),
        pytest.param(short(1, num_arrived=100), ("up", 2), id="no more than twice as many"),
        pytest.param(short(3, num_arrived=100), ("up", 4), id="no more than may be"),
        pytest.param(short(4), ("held", 4), id="there are the most"),
        pytest.param(short(1, num_wanted=2), None, id="one was asked for already"),
        pytest.param(quiet(1, num_running=9.0, kv_use_ratio=0.95), ("up", 2), id="memory is full"),
        pytest.param(quiet(1, num_running=9.0, kv_use_ratio=0.85), None, id="memory is in use"),
        pytest.param(quiet(1, num_running=1.0, kv_use_ratio=0.95), None, id="one takes it all"),
        pytest.param(short(0), None, id="none serves yet"),
        pytest.param(quiet(1), None, id="nothing waits"),
    ],
)
def test_replicas_are_added_when_two_windows_in_a_row_say_so(
    reading: Reading, move: tuple[str, int] | None
) -> None:
    first, second = Course().take(reading, reading)
    assert first is None
    assert as_move(second) == move


def test_a_burst_of_one_window_adds_none() -> None:
    assert Course().take(short(), quiet(1), short(), quiet(1)) == [None] * 4


def test_where_none_begins_it_counts_how_long_that_has_been() -> None:
    stuck = short(num_waiting=3.0, num_begun=0, num_arrived=0)
    goals = Goals(target_wait_s=4.5, quiet_s=60.0)
    moves = [as_move(one) for one in Course(goals=goals).take(*[stuck] * 4)]
    assert moves == [None, None, None, ("up", 2)]


def test_fewer_are_kept_after_a_quiet_time_and_not_before() -> None:
    course = Course()
    num_windows = int(GOALS.quiet_s / SPAN_S)
    decided = course.take(*[quiet(3)] * (num_windows + 1))
    assert decided[:-1] == [None] * num_windows
    assert as_move(decided[-1]) == ("down", 1)


def test_the_busiest_window_of_the_quiet_time_says_how_many_stay() -> None:
    course = Course()
    busy = quiet(4, num_running=1.5 * 16 * SPARE_RATIO)
    course.take(*[quiet(4)] * 20, busy)
    assert as_move(course.last(*[quiet(4)] * 10)) == ("down", 2)
    # That one is forgotten in its turn.
    decided = [as_move(one) for one in course.take(*[quiet(2)] * 25)]
    assert next(one for one in decided if one is not None) == ("down", 1)


def test_after_more_were_wanted_the_quiet_time_begins_anew() -> None:
    course = Course()
    course.take(*[quiet(1)] * 40)
    assert as_move(course.last(short(), short())) == ("up", 2)
    assert course.take(*[quiet(2)] * 29) == [None] * 29
    assert as_move(course.last(*[quiet(2)] * 2)) == ("down", 1)


def test_what_one_was_seen_to_compute_keeps_as_many_as_that_needs() -> None:
    course = Course()
    # One replica computes 200 tokens a second while others wait.
    course.take(quiet(1), short(), short())
    busy = quiet(2, num_tokens=int(200 * SPAN_S * SPARE_RATIO) + 20)
    assert course.take(*[busy] * 80) == [None] * 80
    less = quiet(2, num_tokens=int(200 * SPAN_S * SPARE_RATIO) - 20)
    assert as_move(course.last(*[less] * 31)) == ("down", 1)


def test_what_came_or_left_within_a_window_is_not_taken_for_what_it_can_do() -> None:
    course = Course()
    course.take(quiet(1), short(2, num_tokens=100), short(2, num_tokens=1600))
    # 400 tokens a second each: the window in which one came said 25.
    less = quiet(2, num_tokens=int(400 * SPAN_S * SPARE_RATIO) - 20)
    assert as_move(course.last(*[less] * 32)) == ("down", 1)


def test_memory_that_fewer_would_fill_keeps_replicas() -> None:
    course = Course()
    assert course.take(*[quiet(2, kv_use_ratio=0.5)] * 40) == [None] * 40
    assert as_move(course.last(*[quiet(2, kv_use_ratio=0.3)] * 31)) == ("down", 1)


def test_a_model_that_restarts_says_nothing() -> None:
    course = Course()
    assert course.take(short(), short(0), short(), quiet(0)) == [None] * 4


def test_the_reasons_name_the_figures() -> None:
    course = Course()
    up = course.last(quiet(1), short(num_queued_tokens=77), short(num_queued_tokens=77))
    assert up is not None
    assert up.rationale == (
        "8.0 requests wait 4.0 s each and 2 s are allowed; per second 2.5 come and 2 begin on"
        " 1 replica; 77 tokens are queued there"
    )
    down = course.last(*[quiet(2)] * 32)
    assert down is not None
    assert down.rationale.startswith("for 60 s no more were needed: at most ")
    held = Course(bounds=ReplicaRange(1, 2)).last(short(2), short(2))
    assert held is not None
    assert held.direction is Direction.HELD
    assert held.rationale.startswith("2 are the most that may be: 8.0 requests wait")

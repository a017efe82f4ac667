from __future__ import annotations

from mm_orch.core.events import (
    FirstTokenProduced,
    LoadChanged,
    RequestStatus,
    ResourcesRead,
    TokenGap,
)
from mm_orch.core.figures import UNKNOWN, HistoryPoint, IntervalFigures
from mm_orch.monitoring.history import History
from tests.unit.monitoring.clock import StillClock
from tests.unit.monitoring.scripted_events import ENGINE, MODEL, finished, story

OTHER = "other"
GAP = TokenGap(model=MODEL, engine=ENGINE, seconds_per_token=0.05, num_tokens=10)


def new_history(clock: StillClock, *, num_points: int = 360) -> History:
    # The wall clock runs beside the monotonic one, at another hour.
    return History(
        [MODEL, OTHER],
        interval_s=5,
        num_points=num_points,
        clock=clock,
        wall_clock=lambda: clock.now_s + 1_000_000,
    )


def at(seconds: float) -> float:
    return StillClock.BEGIN_S + 1_000_000 + seconds


def test_an_interval_holds_what_has_come_in_it() -> None:
    clock = StillClock()
    history = new_history(clock)
    for event in story():
        history.observe(event)
    history.observe(ResourcesRead(cpu_percent=40, memory_used_bytes=7, memory_total_bytes=9))
    clock.now_s += 5

    figures = IntervalFigures(
        requests_per_second=0.2,
        failures_per_second=0.2,
        tokens_per_second=0.8,
        time_to_first_token_p50=0.3,
        time_to_first_token_p95=0.3,
        batch_size_mean=2.0,
        cache_hit_ratio=0.4286,
        requests_running=2,
        requests_waiting=5,
    )
    read = history.read()
    assert read.interval_seconds == 5
    assert read.points == (
        HistoryPoint(
            at=at(5),
            total=figures,
            models={MODEL: figures},
            cpu_percent=40,
            memory_used_bytes=7,
        ),
    )


def test_the_total_is_of_all_models() -> None:
    clock = StillClock()
    history = new_history(clock)
    for model, ttft_s in ((MODEL, 1.0), (OTHER, 3.0), ("made-up", 3.0)):
        history.observe(finished(model=model))
        history.observe(LoadChanged(model=model, num_running=1, num_waiting=2))
        history.observe(
            FirstTokenProduced(request_id="r", model=model, engine=ENGINE, ttft_s=ttft_s)
        )
    clock.now_s += 5
    [point] = history.read().points

    assert set(point.models) == {MODEL, OTHER, UNKNOWN}
    assert point.total.requests_per_second == 0.6
    assert (point.total.requests_running, point.total.requests_waiting) == (3, 6)
    assert point.models[MODEL].time_to_first_token_p95 == 1.0
    assert point.total.time_to_first_token_p50 is not None
    assert abs(point.total.time_to_first_token_p50 - 3.0) <= 0.03


def test_an_event_is_counted_in_its_own_interval_though_the_tick_is_late() -> None:
    clock = StillClock()
    history = new_history(clock)
    history.observe(GAP)
    clock.now_s += 6
    history.observe(GAP)
    history.observe(GAP)
    clock.now_s += 5
    history.tick()

    assert [(p.at, p.total.tokens_per_second) for p in history.read().points] == [
        (at(5), 2.0),
        (at(10), 4.0),
    ]


def test_a_pause_leaves_empty_points_and_what_runs_stays() -> None:
    clock = StillClock()
    history = new_history(clock)
    history.observe(GAP)
    history.observe(LoadChanged(model=MODEL, num_running=1, num_waiting=0))
    clock.now_s += 22
    history.tick()

    points = history.read().points
    assert [p.at for p in points] == [at(5), at(10), at(15), at(20)]
    assert [p.total.tokens_per_second for p in points] == [2.0, 0.0, 0.0, 0.0]
    assert [p.total.requests_running for p in points] == [1, 1, 1, 1]
    clock.now_s += 3
    history.tick()
    assert history.read().points[-1].at == at(25)


def test_a_pause_longer_than_the_ring_fills_it_once() -> None:
    clock = StillClock()
    history = new_history(clock, num_points=4)
    history.observe(GAP)
    clock.now_s += 5_000_000
    history.tick()

    assert [p.at for p in history.read().points] == [at(5_000_000 - 5 * k) for k in (3, 2, 1, 0)]
    clock.now_s += 5
    history.tick()
    assert len(history.read().points) == 4


def test_an_idle_model_is_left_out_and_the_total_is_there() -> None:
    clock = StillClock()
    history = new_history(clock)
    clock.now_s += 5

    [point] = history.read().points
    assert (point.total, point.models) == (IntervalFigures(), {})
    assert point.cpu_percent is None


def test_a_tick_before_the_end_closes_nothing() -> None:
    clock = StillClock()
    history = new_history(clock)
    clock.now_s += 4
    history.tick()

    assert history.read().points == ()


def test_refusals_are_no_failures() -> None:
    clock = StillClock()
    history = new_history(clock)
    for status in (RequestStatus.REJECTED, RequestStatus.CANCELLED, RequestStatus.TIMEOUT):
        history.observe(finished(status))
    clock.now_s += 5

    [point] = history.read().points
    assert point.total.requests_per_second == 0
    assert point.total.failures_per_second == 0.2


def test_points_go_on_when_the_wall_clock_is_set_back_and_follow_it_ahead() -> None:
    clock, ahead_s = StillClock(), [1_000_000.0]
    history = History(
        [MODEL], interval_s=5, clock=clock, wall_clock=lambda: clock.now_s + ahead_s[0]
    )
    clock.now_s += 5
    assert [p.at for p in history.read().points] == [at(5)]

    ahead_s[0] -= 3600
    clock.now_s += 10
    assert [p.at for p in history.read(at(5)).points] == [at(10), at(15)]

    # As after a sleep of an hour, in which the monotonic clock stood still.
    ahead_s[0] += 2 * 3600
    clock.now_s += 5
    assert [p.at for p in history.read(at(15)).points] == [at(20 + 3600)]


def test_a_reader_that_has_the_older_points_gets_the_newer_ones() -> None:
    clock = StillClock()
    history = new_history(clock)
    clock.now_s += 15

    assert [p.at for p in history.read(at(5)).points] == [at(10), at(15)]
    assert history.read(at(15)).points == ()

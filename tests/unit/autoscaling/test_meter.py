"""Windows of a model's load, read from the path's events."""

from __future__ import annotations

import pytest

from mm_orch.autoscaling.meter import LoadMeter, Standing
from mm_orch.core.events import CacheUsed, LoadChanged, RequestStarted


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def standing(*serving: int, **computed: int) -> Standing:
    return Standing(
        serving=serving,
        num_wanted=2,
        num_places=8,
        num_queued_tokens=90,
        num_computed_by_worker={int(name[1:]): count for name, count in computed.items()},
    )


def load(meter: LoadMeter, num_running: int, num_waiting: int, model: str = "m") -> None:
    meter.observe(LoadChanged(model=model, num_running=num_running, num_waiting=num_waiting))


def begin(meter: LoadMeter) -> None:
    meter.observe(RequestStarted(request_id="r", model="m", engine="e", queue_wait_s=0.1))


def test_what_waits_and_runs_counts_for_as_long_as_it_does() -> None:
    meter = LoadMeter(clock := Clock())
    meter.read("m", standing(0))
    load(meter, 0, 4)
    load(meter, 9, 9, model="other")
    clock.now_s += 3
    begin(meter)
    load(meter, 1, 3)
    clock.now_s += 1
    reading = meter.read("m", standing(0))

    assert reading.span_s == 4
    assert reading.num_waiting == pytest.approx((4 * 3 + 3) / 4)
    assert reading.num_running == pytest.approx(1 / 4)
    assert (reading.num_begun, reading.num_arrived, reading.num_waiting_now) == (1, 4, 3)
    assert reading.wait_s == pytest.approx(15)
    assert (reading.num_wanted, reading.num_places, reading.num_queued_tokens) == (2, 8, 90)

    clock.now_s += 2
    reading = meter.read("m", standing(0))
    assert (reading.num_waiting, reading.num_running) == (3, 1)
    # None began, and nobody knows for how long they wait.
    assert (reading.num_begun, reading.num_arrived, reading.wait_s) == (0, 0, 0)


def test_those_that_gave_up_have_not_come() -> None:
    meter = LoadMeter(clock := Clock())
    load(meter, 0, 5)
    clock.now_s += 1
    meter.read("m", standing(0))
    load(meter, 0, 2)
    clock.now_s += 1
    assert meter.read("m", standing(0)).num_arrived == 0


def test_tokens_are_those_of_the_window_whichever_workers_come_and_go() -> None:
    meter = LoadMeter(clock := Clock())
    clock.now_s += 1
    assert meter.read("m", standing(0, w1=100)).num_tokens == 100
    clock.now_s += 1
    reading = meter.read("m", standing(0, 1, w1=130, w2=7))
    assert reading.num_tokens == 37
    assert reading.tokens_per_s == 37
    clock.now_s += 1
    assert meter.read("m", standing(1, w2=9)).num_tokens == 2


def test_memory_is_the_mean_of_those_that_serve() -> None:
    meter = LoadMeter(clock := Clock())
    assert meter.read("m", standing(0)).kv_use_ratio is None
    for replica, use_ratio in ((0, 0.5), (1, 0.9), (2, 0.1), (-1, 1.0)):
        event = CacheUsed(model="m", engine="e", use_ratio=use_ratio, replica=replica)
        meter.observe(event)
    clock.now_s += 1
    assert meter.read("m", standing(0, 1)).kv_use_ratio == pytest.approx(0.7)

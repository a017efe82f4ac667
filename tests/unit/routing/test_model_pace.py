"""How fast and how well models did lately."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mm_orch.core.events import LoadChanged, ModelLoaded, RequestFinished, RequestStatus
from mm_orch.routing.model_pace import ModelPace
from tests.unit.monitoring.clock import StillClock

DONE = RequestFinished(
    request_id="r",
    model="m",
    engine="echo",
    status=RequestStatus.SUCCESS,
    total_s=3.0,
    ttft_s=1.0,
    num_generated_tokens=21,
    finish_reasons=("stop",),
)
FAILED = replace(DONE, status=RequestStatus.ERROR)


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def pace(clock: StillClock) -> ModelPace:
    return ModelPace(["m"], clock)


def test_before_anything_happened_nothing_is_known(pace: ModelPace) -> None:
    assert (pace.tokens_per_s("m"), pace.load_s("m"), pace.failure_ratio("m")) == (None, None, 0.0)


def test_an_answers_speed_is_that_after_its_first_token(pace: ModelPace) -> None:
    pace.observe(DONE)
    assert pace.tokens_per_s("m") == 10.0

    pace.observe(replace(DONE, num_generated_tokens=41))
    assert pace.tokens_per_s("m") == pytest.approx(10.0 + 0.2 * 10.0)


def test_several_answers_to_one_prompt_grow_side_by_side(pace: ModelPace) -> None:
    pace.observe(replace(DONE, num_generated_tokens=42, finish_reasons=("stop", "length")))

    assert pace.tokens_per_s("m") == 10.0


@pytest.mark.parametrize(
    "event",
    [
        replace(DONE, num_generated_tokens=7),
        replace(DONE, ttft_s=None),
        replace(DONE, ttft_s=3.0),
        replace(DONE, status=RequestStatus.CANCELLED),
        replace(DONE, model="other"),
        LoadChanged(model="m", num_running=1, num_waiting=0),
    ],
)
def test_what_says_nothing_of_the_speed_is_passed_over(
    event: RequestFinished | LoadChanged, pace: ModelPace
) -> None:
    pace.observe(event)

    assert pace.tokens_per_s("m") is None


def test_failures_count_and_are_forgotten(pace: ModelPace, clock: StillClock) -> None:
    for status in (RequestStatus.ERROR, RequestStatus.TIMEOUT, RequestStatus.REJECTED):
        pace.observe(replace(FAILED, status=status))
    assert pace.failure_ratio("m") == 2 / 5

    pace.observe(DONE)
    assert pace.failure_ratio("m") == 2 / 6

    clock.now_s += 120
    assert pace.failure_ratio("m") == pytest.approx(1 / 4.5)
    clock.now_s += 3600
    assert pace.failure_ratio("m") < 1e-6


def test_the_last_load_is_remembered(pace: ModelPace) -> None:
    pace.observe(ModelLoaded(model="m", engine="echo", duration_s=4.0))

    assert pace.load_s("m") == 4.0

"""What came of the guard's steps is told once, by the first window that can tell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.batching_simulator import BatchingSimulator
from mm_orch.tuning.aftermath import Aftermath, Outcome
from mm_orch.tuning.decisions import Decision, DecisionKind
from mm_orch.tuning.guard import GuardStep
from mm_orch.tuning.knobs import BATCH_SIZE, QUEUE_CAPACITY
from mm_orch.tuning.readings import Reading
from mm_orch.tuning.trial import decide_guard
from tests.tuning_simulation import ENGINE, TARGET_S, WORKLOAD, make_policy, make_setting, tune

# Requests take 12 s, so the next window still holds some from before.
BUSY = Reading(
    span_s=15.0,
    num_arrived=60,
    num_succeeded=40,
    tokens_per_s=200.0,
    latency_p50_s=12.0,
    latency_p95_s=14.0,
)
CALM = replace(BUSY, latency_p50_s=2.0, latency_p95_s=3.0)
SLOW = replace(BUSY, latency_p95_s=4.5)
IDLE = Reading(span_s=15.0)
UNENDED = replace(BUSY, num_succeeded=0, latency_p50_s=None, latency_p95_s=None)
BEFORE, AFTER = make_setting(queue_capacity=100), make_setting(queue_capacity=20)


def followed() -> tuple[Aftermath, Decision]:
    """A step that shortens the queue, put in force after a busy window."""
    aftermath = Aftermath(TARGET_S)
    step = decide_guard(GuardStep({QUEUE_CAPACITY: 20}, "too long"), {QUEUE_CAPACITY: 100}, BUSY)
    aftermath.follow(step, BUSY)
    return aftermath, step


def take(aftermath: Aftermath, *readings: Reading) -> list[Outcome | None]:
    return [aftermath.take(one, AFTER, is_last=False) for one in readings]


@pytest.mark.parametrize(
    ("reading", "is_kept", "words"),
    [
        (CALM, True, "since then p95 is 3.0 s, within the target"),
        (SLOW, False, "since then p95 is 4.5 s, over the target"),
    ],
)
def test_the_first_window_without_requests_from_before_tells(
    reading: Reading, words: str, *, is_kept: bool
) -> None:
    aftermath, step = followed()

    early, outcome, again = take(aftermath, BUSY, reading, reading)

    assert early is again is None
    assert outcome is not None
    assert outcome.step is step
    assert outcome.is_kept is is_kept
    assert outcome.told.rationale == f"{step.rationale}; {words}"
    assert outcome.told.before == step.before
    assert outcome.told.after is not None
    assert outcome.told.after.latency_p95_s == reading.latency_p95_s
    assert outcome.told.changes == step.changes


def test_a_long_queue_is_drained_before_it_is_told() -> None:
    aftermath = Aftermath(TARGET_S)
    full = replace(CALM, num_waiting=100.0)
    step = decide_guard(GuardStep({QUEUE_CAPACITY: 20}, "too long"), {QUEUE_CAPACITY: 100}, full)
    aftermath.follow(step, full)

    # Eighty too many, forty answered a window.
    told = take(aftermath, full, full, full, CALM)

    assert told[:3] == [None] * 3
    assert told[3] is not None


def test_windows_that_say_nothing_of_latency_are_passed_over() -> None:
    aftermath, _ = followed()

    *nothing, outcome = take(aftermath, BUSY, IDLE, UNENDED, IDLE, CALM)

    assert nothing == [None] * 4
    assert outcome is not None
    assert outcome.is_kept


@pytest.mark.parametrize(
    ("reading", "is_kept", "words"),
    [
        (SLOW, False, "over the target, with requests from before"),
        (UNENDED, None, "no request has ended since"),
    ],
)
def test_another_change_ends_it_with_what_is_known_by_then(
    reading: Reading, words: str, *, is_kept: bool | None
) -> None:
    aftermath, _ = followed()

    outcome = aftermath.take(reading, AFTER, is_last=True)

    assert outcome is not None
    assert outcome.is_kept is is_kept
    assert outcome.told.rationale.endswith(words)
    assert outcome.told.after is not None
    assert take(aftermath, CALM) == [None]


def test_what_others_changed_cannot_be_told() -> None:
    aftermath, step = followed()

    outcome = aftermath.take(CALM, BEFORE, is_last=False)

    assert outcome is not None
    assert (outcome.is_kept, outcome.told.after) == (None, None)
    assert (
        outcome.told.rationale == f"{step.rationale}; others changed it before a window could tell"
    )
    assert take(aftermath, CALM) == [None]


@pytest.mark.parametrize("batch_size", [4, 256])
def test_every_step_on_a_simulated_engine_is_told_of(batch_size: int) -> None:
    simulator = BatchingSimulator(
        ENGINE, WORKLOAD, make_setting(batch_size=batch_size, queue_capacity=1000), seed=1
    )
    windows = tune(make_policy(), simulator, lambda _: 7.0, 60)
    aftermath = Aftermath(TARGET_S)
    steps: list[Decision] = []
    outcomes: list[Outcome] = []
    in_force = make_setting(batch_size=batch_size, queue_capacity=1000)
    for window in windows:
        is_last = any(one.changes for one in window.decisions)
        if outcome := aftermath.take(window.reading, in_force, is_last=is_last):
            outcomes.append(outcome)
        for one in window.decisions:
            if one.kind is DecisionKind.GUARD:
                steps.append(one)
                aftermath.follow(one, window.reading)
        in_force = window.setting

    assert steps
    assert {key for one in steps for key in one.new} <= {BATCH_SIZE, QUEUE_CAPACITY}
    assert [one.step for one in outcomes] == steps
    assert all(one.told.after is not None for one in outcomes)
    assert any(one.is_kept for one in outcomes)

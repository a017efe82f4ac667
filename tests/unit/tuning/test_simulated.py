"""What the tuner reaches on simulated engines, beside the best setting that never changes."""

from __future__ import annotations

import itertools
import json
import statistics
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.batching_simulator import BatchingSimulator
from mm_orch.tuning.decisions import DecisionKind
from mm_orch.tuning.knobs import BATCH_SIZE, KNOBS, QUEUE_CAPACITY
from mm_orch.tuning.memory import TuningMemory
from tests.tuning_simulation import (
    ENGINE,
    TARGET_S,
    WORKLOAD,
    goodput,
    longest_over,
    make_policy,
    make_setting,
    run_untuned,
    tune,
)

if TYPE_CHECKING:
    from tests.tuning_simulation import Seen

NUM_WINDOWS = 132
NUM_JUDGED = 36
"""The last ones, of which goodput is compared: whole periods of the load that alternates."""

ONE_AT_A_TIME = make_setting(batch_size=1)
SHORT_OF_ALL = make_setting(batch_size=64, batch_tokens=32, cache_mb=64, queue_capacity=500)
FAR_TOO_MUCH = make_setting(batch_size=256, batch_tokens=8192, queue_capacity=1000)

STARTS = (ONE_AT_A_TIME, FAR_TOO_MUCH, SHORT_OF_ALL)

HIGH, LOW = 7.0, 1.2


def steady(_index: int) -> float:
    return HIGH


def rising(index: int) -> float:
    return LOW + (HIGH - LOW) * min(1.0, index / 80)


def alternating(index: int) -> float:
    return HIGH if index // 12 % 2 else LOW


LOADS = {one.__name__: one for one in (steady, rising, alternating)}


@cache
def best_untuned(name: str) -> float:
    load = LOADS[name]
    return max(
        goodput(
            run_untuned(
                make_setting(batch_size=batch_size, batch_tokens=512, queue_capacity=queue),
                lambda index: load(index + NUM_WINDOWS - NUM_JUDGED),
                NUM_JUDGED,
            ),
            TARGET_S,
        )
        for batch_size, queue in itertools.product((6, 8, 12, 16, 24), (4, 8, 16))
    )


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("start", STARTS, ids=["one at a time", "far too much", "short of all"])
def test_a_bad_start_comes_to_nine_tenths_of_the_best_and_keeps_the_target(
    load: str, start: dict[str, int]
) -> None:
    goodputs = []
    for seed in range(1, 5):
        simulator = BatchingSimulator(ENGINE, WORKLOAD, start, seed=seed)
        seen = tune(make_policy(), simulator, LOADS[load], NUM_WINDOWS)
        readings = [one.reading for one in seen]
        goodputs.append(goodput(readings[-NUM_JUDGED:], TARGET_S))
        assert longest_over(readings, TARGET_S) <= 2
        check_steps(seen, start)

    # Single runs stray by some hundredths.
    assert statistics.fmean(goodputs) >= 0.9 * best_untuned(load)


@pytest.mark.parametrize("seed", range(1, 6))
def test_far_from_the_best_a_few_windows_are_enough(seed: int) -> None:
    simulator = BatchingSimulator(ENGINE, WORKLOAD, ONE_AT_A_TIME, seed=seed)

    seen = tune(make_policy(), simulator, steady, 20)

    readings = [one.reading for one in seen]
    assert goodput(readings[-6:], TARGET_S) >= 0.9 * best_untuned("steady")
    leaps = [
        decision
        for one in seen
        for decision in one.decisions
        if "in one window" in decision.rationale
    ]
    assert leaps
    check_steps(seen, ONE_AT_A_TIME)


def check_steps(seen: list[Seen], start: dict[str, int]) -> None:
    setting = dict(start)
    for one in seen:
        changing = [decision for decision in one.decisions if decision.changes]
        assert len(changing) <= 1
        for decision in changing:
            if decision.kind is DecisionKind.TRY:
                assert len(decision.changes) == 1
            if decision.kind is DecisionKind.GUARD:
                assert decision.changes.keys() <= {BATCH_SIZE, QUEUE_CAPACITY}
            for key, value in decision.changes.items():
                knob = KNOBS[key]
                assert min(knob.low, setting[key]) <= value <= max(knob.high, setting[key])
        assert all(decision.rationale for decision in one.decisions)
        setting = one.setting


def test_a_start_short_of_all_serves_nothing_in_time_untuned() -> None:
    assert goodput(run_untuned(SHORT_OF_ALL, steady, 20), TARGET_S) == 0


def test_without_a_target_throughput_grows() -> None:
    simulator = BatchingSimulator(ENGINE, WORKLOAD, ONE_AT_A_TIME, seed=1)

    seen = tune(make_policy(target_s=None), simulator, steady, 60)

    before = sum(one.reading.tokens_per_s for one in seen[:5]) / 5
    after = sum(one.reading.tokens_per_s for one in seen[-5:]) / 5
    assert after >= 2 * before


def test_without_traffic_nothing_changes() -> None:
    simulator = BatchingSimulator(ENGINE, WORKLOAD, ONE_AT_A_TIME)

    seen = tune(make_policy(), simulator, lambda _: 0.0, 40)

    assert not any(one.decisions for one in seen)


def test_a_load_that_is_served_well_changes_nothing() -> None:
    simulator = BatchingSimulator(ENGINE, WORKLOAD, make_setting(queue_capacity=8))

    seen = tune(make_policy(target_s=None), simulator, lambda _: LOW, 40)

    assert not any(one.decisions for one in seen)


def test_what_may_not_be_tuned_is_left_alone() -> None:
    simulator = BatchingSimulator(ENGINE, WORKLOAD, ONE_AT_A_TIME)

    seen = tune(make_policy(), simulator, steady, 40, tunable=frozenset())

    assert all(one.setting == ONE_AT_A_TIME for one in seen)


def test_an_option_that_was_refused_is_not_tried_again() -> None:
    simulator = BatchingSimulator(ENGINE, WORKLOAD, ONE_AT_A_TIME, seed=1)
    policy = make_policy()

    seen = tune(policy, simulator, steady, 60, refused=frozenset({BATCH_SIZE}))

    tried = [key for one in seen for decision in one.decisions for key in decision.changes]
    assert tried.count(BATCH_SIZE) == 1
    assert policy.left_alone == {BATCH_SIZE}


def test_a_load_that_returns_begins_where_it_ended() -> None:
    memory = TuningMemory()
    first = BatchingSimulator(ENGINE, WORKLOAD, ONE_AT_A_TIME, seed=1)
    learnt = tune(make_policy(memory=memory), first, steady, 80)[-1].setting
    again = BatchingSimulator(ENGINE, WORKLOAD, ONE_AT_A_TIME, seed=2)

    restored = TuningMemory.decode(memory.encode())
    seen = tune(make_policy(memory=restored), again, steady, 12)

    kinds = [decision.kind for one in seen for decision in one.decisions]
    assert kinds[0] is DecisionKind.RECALL
    assert seen[0].setting[BATCH_SIZE] >= learnt[BATCH_SIZE] / 2 > 1
    assert goodput([one.reading for one in seen[-4:]], TARGET_S) >= 0.8 * best_untuned("steady")


def test_a_queue_that_would_take_too_long_is_cut_before_it_fills() -> None:
    simulator = BatchingSimulator(ENGINE, WORKLOAD, FAR_TOO_MUCH, seed=1)

    seen = tune(make_policy(), simulator, lambda index: LOW if index < 10 else HIGH, 30)

    assert seen[9].setting[QUEUE_CAPACITY] < 100
    assert longest_over([one.reading for one in seen], TARGET_S) <= 2


def test_no_batch_becomes_smaller_than_an_idle_engine_waits_for() -> None:
    simulator = BatchingSimulator(ENGINE, WORKLOAD, FAR_TOO_MUCH, min_batch_size=24, seed=1)

    seen = tune(make_policy(target_s=1.0), simulator, rising, 40)

    sizes = [one.setting[BATCH_SIZE] for one in seen]
    assert min(sizes) >= 24
    assert sizes[-1] < FAR_TOO_MUCH[BATCH_SIZE]


def test_the_simulated_engine_has_the_constants_that_were_fitted() -> None:
    path = Path(__file__).parents[3] / "benchmarks/results/step_times.json"
    fitted = json.loads(path.read_text())

    constants = (ENGINE.fixed_s, ENGINE.per_sequence_s, ENGINE.per_prompt_token_s)
    assert [1000 * one for one in constants] == pytest.approx(
        [fitted[name] for name in ("fixed_ms", "per_sequence_ms", "per_prompt_token_ms")]
    )

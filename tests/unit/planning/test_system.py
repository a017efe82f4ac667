"""The simulated system against closed formulas, and what always holds of it."""

from __future__ import annotations

import random
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_orch.planning.costs import MeasuredCosts
from mm_orch.planning.simulation.balancing import POLICIES, PowerOfTwo
from mm_orch.planning.simulation.summary import summarise
from mm_orch.planning.simulation.system import Failures, simulate
from mm_orch.planning.simulation.work import Refusal, Session, Turn
from tests.unit.planning.loads import COSTS, ONE_SECOND, draw_sessions, make_spec, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.planning.simulation.replica import Replica
    from mm_orch.planning.simulation.system import Outcome
    from mm_orch.planning.simulation.work import Request

# A prompt of a million tokens on average takes a second.
_BY_LENGTH = MeasuredCosts(fixed_s=0.0, per_sequence_s=0.0, per_prompt_token_s=1e-6)
# Sequences that decode, keys, prompt tokens, pairs.
_SIZES = [(1, 9, 0, 0), (16, 9, 0, 0), (40, 9, 0, 0), (0, 0, 1, 9), (0, 0, 400, 9), (32, 9, 17, 9)]


def exponential_sessions(num_sessions: int, rate: float, seed: int = 1) -> list[Session]:
    dice = random.Random(seed)  # noqa: S311 - reproducible on purpose
    now_s, sessions = 0.0, []
    for _ in range(num_sessions):
        now_s += dice.expovariate(rate)
        sessions.append(Session(now_s, (Turn(1 + int(dice.expovariate(1e-6)), 1),)))
    return sessions


class ShorterQueue(PowerOfTwo):
    """Counts requests and not their tokens, as the formula does."""

    def choose(self, request: Request, alive: Sequence[Replica]) -> Replica:  # noqa: ARG002 - a Balancer's
        return min(self.draw(alive), key=lambda one: one.num_unfinished)


def mean_s(outcome: Outcome) -> float:
    return statistics.fmean((one.ended_s or 0.0) - one.arrived_s for one in outcome.requests)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_one_at_a_time_of_equal_length_waits_as_m_d_1_says(load: float) -> None:
    sessions = draw_sessions(40_000, load, prompt=(1, 1), output=(1, 1))

    outcome = run(make_spec(1, ONE_SECOND, max_batch_size=1), sessions)

    assert mean_s(outcome) == pytest.approx(1 + load / (2 * (1 - load)), rel=0.05)


def test_a_request_costs_its_replica_what_taking_it_in_takes_once() -> None:
    costs = replace(ONE_SECOND, per_request_s=0.25)

    outcome = run(make_spec(1, costs), [Session(0.0, (Turn(8, 3), Turn(8, 3)))])

    first, second = outcome.requests
    assert (first.first_token_s, first.ended_s) == (1.25, 3.25)
    assert (second.first_token_s, second.ended_s) == (4.5, 6.5)


def test_the_first_tokens_of_a_step_cost_more_where_they_do() -> None:
    costs = replace(COSTS, per_early_sequence_s=0.5, per_early_token_s=2.0)

    more_s = [costs.step_s(*size) - COSTS.step_s(*size) for size in _SIZES]

    assert more_s == pytest.approx([0.5, 8.0, 8.0, 2.0, 32.0, 40.0])


@pytest.mark.parametrize("load", [0.5, 0.7])
def test_one_at_a_time_of_random_length_waits_as_m_m_1_says(load: float) -> None:
    spec = make_spec(1, _BY_LENGTH, max_batch_size=1, max_batch_tokens=1 << 60, kv_tokens=1 << 60)

    outcome = run(spec, exponential_sessions(40_000, load))

    assert mean_s(outcome) == pytest.approx(1 / (1 - load), rel=0.06)


def test_a_bounded_queue_refuses_as_m_m_1_k_says() -> None:
    load, num_places = 0.9, 5
    spec = make_spec(
        1,
        _BY_LENGTH,
        queue_capacity=num_places - 1,
        max_batch_size=1,
        max_batch_tokens=1 << 60,
        kv_tokens=1 << 60,
    )

    outcome = run(spec, exponential_sessions(40_000, load))

    refused = [one for one in outcome.requests if one.refused_because is Refusal.QUEUE_FULL]
    expected = (1 - load) * load**num_places / (1 - load ** (num_places + 1))
    assert len(refused) / len(outcome.requests) == pytest.approx(expected, rel=0.07)


def test_two_choices_wait_as_mitzenmacher_says() -> None:
    load, num_replicas = 0.7, 200
    spec = make_spec(
        num_replicas, _BY_LENGTH, max_batch_size=1, max_batch_tokens=1 << 60, kv_tokens=1 << 60
    )
    sessions = exponential_sessions(100 * num_replicas, load * num_replicas)

    outcome = simulate(spec, sessions, ShorterQueue(1))

    settled = [one for one in outcome.requests if one.arrived_s > 30]
    waited_s = statistics.fmean((one.ended_s or 0.0) - one.arrived_s for one in settled)
    expected_s = sum(load ** (2**number - 2) for number in range(1, 12))
    assert waited_s == pytest.approx(expected_s, rel=0.06)


@given(
    num_replicas=st.integers(1, 4),
    policy=st.sampled_from(sorted(POLICIES)),
    max_batch_size=st.integers(1, 6),
    kv_tokens=st.integers(200, 900),
    queue_capacity=st.integers(1, 30),
    num_turns=st.integers(1, 3),
    num_group_tokens=st.sampled_from([0, 50]),
    mean_life_s=st.sampled_from([None, 1.0, 10.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_whatever_arrives_ends_once(
    *,
    num_replicas: int,
    policy: str,
    max_batch_size: int,
    kv_tokens: int,
    queue_capacity: int,
    num_turns: int,
    num_group_tokens: int,
    mean_life_s: float | None,
    seed: int,
) -> None:
    failures = None if mean_life_s is None else Failures(mean_life_s=mean_life_s, restart_s=1.0)
    sessions = draw_sessions(
        30,
        4.0,
        prompt=(5, 90),
        output=(1, 40),
        num_turns=num_turns,
        num_group_tokens=num_group_tokens,
        seed=seed,
    )
    spec = make_spec(
        num_replicas,
        queue_capacity=queue_capacity,
        failures=failures,
        max_batch_size=max_batch_size,
        kv_tokens=kv_tokens,
    )

    outcome = run(spec, sessions, policy, seed)

    by_session: dict[int, list[int]] = {}
    for one in outcome.requests:
        by_session.setdefault(one.session, []).append(one.turn)
        assert (one.ended_s is None) == (one.refused_because is not None)
        if one.ended_s is not None:
            assert one.num_delivered == one.num_output_tokens
            assert one.started_s is not None
            assert one.first_token_s is not None
            assert one.arrived_s <= one.started_s < one.first_token_s <= one.ended_s
    # Each session goes on to its last turn, or to the one that was refused.
    assert by_session.keys() == set(range(30))
    for session, turns in by_session.items():
        assert turns == list(range(len(turns))), session
    for replica in outcome.replicas:
        assert replica.num_unfinished == 0
        assert replica.num_queued_tokens == 0
        assert replica.cache.num_tokens == replica.cache.num_unheld
        assert replica.cache.num_tokens <= kv_tokens


@pytest.mark.parametrize("policy", POLICIES)
def test_equal_seeds_give_equal_outcomes(policy: str) -> None:
    spec = make_spec(3, failures=Failures(mean_life_s=20.0, restart_s=2.0))
    sessions = draw_sessions(200, 8.0)

    first, second, other = (run(spec, sessions, policy, seed) for seed in (1, 1, 2))

    assert [one.ended_s for one in first.requests] == [one.ended_s for one in second.requests]
    assert [one.ended_s for one in first.requests] != [one.ended_s for one in other.requests]


def test_more_load_waits_longer_and_more_replicas_wait_less() -> None:
    p95_by_rate = [
        summarise(run(make_spec(2), draw_sessions(300, rate))).total.p95_s
        for rate in (2.0, 5.0, 8.0)
    ]
    p95_by_replicas = [
        summarise(run(make_spec(number), draw_sessions(300, 8.0))).total.p95_s
        for number in (1, 2, 4)
    ]

    assert p95_by_rate == sorted(p95_by_rate)
    assert p95_by_replicas == sorted(p95_by_replicas, reverse=True)


def test_a_stream_goes_on_elsewhere_with_what_it_had() -> None:
    sessions = draw_sessions(100, 4.0)
    quiet = run(make_spec(2), sessions)
    troubled = run(make_spec(2, failures=Failures(mean_life_s=3.0, restart_s=1.0)), sessions)

    moved = [one for one in troubled.requests if one.num_moves]
    assert troubled.num_deaths > 5
    assert moved
    assert all(one.num_delivered == one.num_output_tokens for one in moved)
    assert mean_s(troubled) > mean_s(quiet)


def test_a_request_longer_than_the_memory_is_refused() -> None:
    outcome = run(make_spec(kv_tokens=50), [Session(0.0, (Turn(40, 20),))])

    [request] = outcome.requests
    assert request.refused_because is Refusal.TOO_LONG


def test_affinity_finds_what_chance_does_not() -> None:
    sessions = draw_sessions(80, 2.0, num_turns=4)
    ratio_by_policy = {
        policy: summarise(run(make_spec(4), sessions, policy)).cached_ratio for policy in POLICIES
    }

    for policy in ("prefix_affinity", "server's prefix"):
        assert ratio_by_policy[policy] > 1.5 * ratio_by_policy["random"]


@pytest.mark.parametrize("policy", ["prefix_affinity", "server's prefix"])
def test_affinity_follows_a_shared_beginning_and_shares_the_load(policy: str) -> None:
    sessions = [
        Session(number * 0.5, (Turn(40, 10),), group=number % 8, num_group_tokens=800)
        for number in range(400)
    ]
    by_policy = {one: summarise(run(make_spec(4), sessions, one)) for one in (policy, "random")}

    assert by_policy[policy].cached_ratio > by_policy["random"].cached_ratio
    # On one replica alone it would be 4.
    assert by_policy[policy].imbalance < 2


def test_a_summary_counts_what_was_seen() -> None:
    summary = summarise(run(make_spec(1, ONE_SECOND), [Session(1.0, (Turn(3, 4),))]))

    assert summary.ttft.p50_s == pytest.approx(1.0)
    assert summary.total.p95_s == pytest.approx(4.0)
    assert summary.output_tokens_per_s == pytest.approx(1.0)
    assert summary.busy_ratio == pytest.approx(4 / 5)
    assert summary.batch_size == pytest.approx(1.0)


def test_the_noise_of_steps_spreads_latencies() -> None:
    sessions = [Session(100.0 * number, (Turn(16, 1),)) for number in range(200)]
    spec = make_spec(1, COSTS)
    noisy = make_spec(1, COSTS, noise_ratio=0.1)
    steady_s, spread_s = (
        [(one.ended_s or 0.0) - one.arrived_s for one in run(each, sessions).requests]
        for each in (spec, noisy)
    )

    assert statistics.pstdev(steady_s) == pytest.approx(0.0, abs=1e-9)
    assert statistics.pstdev(spread_s) / statistics.fmean(spread_s) == pytest.approx(0.1, rel=0.2)

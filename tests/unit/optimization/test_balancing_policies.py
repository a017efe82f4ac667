"""Every policy of replicas keeps to the contract, and each to its own word."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, get_args

import pytest

from mm_orch.config.schema.optimization import OptimizationSettings
from mm_orch.monitoring.replica_series import RULES
from mm_orch.optimization.replicas.balancer import Balancer
from mm_orch.optimization.replicas.offers import Rule
from mm_orch.optimization.replicas.policies import POLICIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mm_orch.optimization.replicas.balancer import Choice

every_policy = pytest.mark.parametrize("policy", POLICIES)


def balancer_of(policy: str, num_replicas: int = 4, seed: int = 0) -> Balancer:
    balancer = Balancer(policy, seed=seed)
    for replica in range(num_replicas):
        balancer.join(replica, max_tokens=1000)
    return balancer


def choose(
    balancer: Balancer,
    queues: Mapping[int, int],
    *,
    names: tuple[int, ...] = (),
    conversation: str = "",
) -> Choice:
    return balancer.choose(names, num_tokens=100, conversation=conversation, queued_tokens=queues)


def test_the_option_and_the_metric_name_what_there_is() -> None:
    assert get_args(OptimizationSettings.model_fields["balancing"].annotation) == tuple(POLICIES)
    assert tuple(rule.value for rule in Rule) == RULES


@every_policy
def test_only_those_that_take_requests_are_chosen(policy: str) -> None:
    balancer = balancer_of(policy)
    able = {1: 50, 3: 50}

    assert {choose(balancer, able).replica for _ in range(50)} == {1, 3}
    assert choose(balancer, {2: 10**6}).rule is Rule.ONLY


@every_policy
def test_what_is_held_is_known_whatever_chooses(policy: str) -> None:
    balancer = balancer_of(policy, 1)
    choose(balancer, {0: 0}, names=(7, 8, 9))

    assert choose(balancer, {0: 0}, names=(7, 8, 10)).num_held_tokens == 32
    assert balancer.count_held_tokens(0) == 64


@every_policy
def test_equal_replicas_get_equally_much(policy: str) -> None:
    balancer = balancer_of(policy)
    counts = Counter(choose(balancer, dict.fromkeys(range(4), 0)).replica for _ in range(400))

    assert min(counts.values()) >= 70


def test_round_robin_takes_one_after_another_though_a_conversation_is_elsewhere() -> None:
    balancer = balancer_of("round_robin", 3)
    queues = {0: 0, 1: 5000, 2: 7}

    chosen = [choose(balancer, queues, names=(1, 2), conversation="s") for _ in range(6)]
    assert [one.replica for one in chosen] == [1, 2, 0, 1, 2, 0]
    assert {one.rule for one in chosen} == {Rule.TURN}


def test_the_power_of_two_never_takes_the_longest_queue() -> None:
    balancer = balancer_of("power_of_two", 3)

    counts = Counter(choose(balancer, {0: 5, 1: 9, 2: 1}).replica for _ in range(300))
    assert counts[1] == 0
    # The shortest wins both pairs that it is in.
    assert counts[2] > 1.5 * counts[0] > 0


def test_chance_looks_at_nothing() -> None:
    balancer = balancer_of("random", 2)

    counts = Counter(
        choose(balancer, {0: 0, 1: 9999}, names=(1,), conversation="s").replica for _ in range(400)
    )
    assert min(counts.values()) >= 150

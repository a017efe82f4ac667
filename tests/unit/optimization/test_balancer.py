from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import pytest

from mm_orch.optimization.replicas.balancer import Balancer, Choice
from mm_orch.optimization.replicas.held_prefixes import BLOCK_TOKENS, name_blocks
from mm_orch.optimization.replicas.offers import LIGHT_QUEUE_TOKENS, MAX_IMBALANCE, Rule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IDLE = {0: 0, 1: 0}
MAX_TOKENS = 10_000


def balancer_of(
    num_replicas: int, *, max_tokens: int = MAX_TOKENS, seed: int = 0, prefix: str = ""
) -> Balancer:
    balancer = Balancer(seed=seed)
    for replica in range(num_replicas):
        identity = f"{prefix}{replica}" if prefix else ""
        balancer.join(replica, max_tokens=max_tokens, identity=identity)
    return balancer


def prompt(seed: int, num_tokens: int) -> tuple[int, ...]:
    return tuple(Random(seed).choices(range(1000), k=num_tokens))  # noqa: S311 - reproducible


def choose(
    balancer: Balancer,
    token_ids: Sequence[int],
    queued_tokens: Mapping[int, int],
    *,
    conversation: str = "",
    opening: str = "",
) -> Choice:
    return balancer.choose(
        name_blocks(token_ids),
        num_tokens=len(token_ids),
        conversation=conversation,
        queued_tokens=queued_tokens,
        opening=opening,
    )


def test_the_next_turn_goes_where_the_last_one_was() -> None:
    balancer = balancer_of(2)
    turns = [prompt(seed, 400) for seed in range(6)]
    firsts = [choose(balancer, turn, IDLE).replica for turn in turns]

    nexts = [choose(balancer, turn + prompt(90, 300), IDLE) for turn in turns]

    assert [one.replica for one in nexts] == firsts
    assert {one.rule for one in nexts} == {Rule.PREFIX}
    assert {one.num_held_tokens for one in nexts} == {400}


def test_new_conversations_are_spread_over_the_memory_of_all() -> None:
    balancer = balancer_of(4)
    counts = Counter(
        choose(balancer, prompt(seed, 320), dict.fromkeys(range(4), 0)).replica
        for seed in range(200)
    )
    assert min(counts.values()) >= 40


def test_a_system_prompt_that_all_share_does_not_gather_them_on_one_replica() -> None:
    balancer, shared = balancer_of(2), prompt(1, 320)
    counts = Counter(
        choose(balancer, shared + prompt(seed, 160), IDLE).replica for seed in range(2, 42)
    )
    assert min(counts.values()) >= 15


def test_a_conversation_that_is_named_is_followed_though_nothing_of_its_prompt_is_known() -> None:
    balancer = balancer_of(2)
    first = choose(balancer, prompt(1, 20), IDLE, conversation="s").replica

    later = [
        choose(balancer, prompt(seed, 20), {first: 10, 1 - first: 8}, conversation="s")
        for seed in range(5)
    ]

    assert {(one.replica, one.rule) for one in later} == {(first, Rule.SESSION)}


def test_a_conversation_that_has_ended_is_not_followed() -> None:
    balancer = balancer_of(2)
    first = choose(balancer, (), IDLE, conversation="s").replica
    balancer.forget_conversation("s")

    assert choose(balancer, (), {first: 9, 1 - first: 0}, conversation="s").replica != first


@pytest.mark.parametrize("conversation", ["", "s"])
def test_affinity_ends_where_the_queue_is_over_the_bound(conversation: str) -> None:
    balancer, turn = balancer_of(2), prompt(1, 400)
    first = choose(balancer, turn, IDLE, conversation=conversation).replica
    queue = 2 * LIGHT_QUEUE_TOKENS
    at_the_bound = {first: queue, 1 - first: int(queue * (2 / MAX_IMBALANCE - 1)) + 1}

    assert choose(balancer, turn, at_the_bound, conversation=conversation).replica == first
    over_it = {**at_the_bound, first: queue + 100}
    moved = choose(balancer, turn, over_it, conversation=conversation)
    assert (moved.replica, moved.rule) == (1 - first, Rule.LOAD)


def test_a_light_queue_is_waited_for_where_that_saves_more() -> None:
    balancer, turn = balancer_of(2), prompt(1, 800)
    first = choose(balancer, turn, IDLE).replica

    assert choose(balancer, turn, {first: 800, 1 - first: 0}).replica == first
    assert choose(balancer, turn, {first: 801, 1 - first: 0}).replica != first


def test_a_conversation_that_had_to_move_stays_where_it_went() -> None:
    balancer = balancer_of(2)
    first = choose(balancer, (), IDLE, conversation="s").replica
    choose(balancer, (), {first: 9000, 1 - first: 0}, conversation="s")

    assert choose(balancer, (), IDLE, conversation="s").replica == 1 - first


def test_a_replica_that_left_and_came_back_holds_nothing() -> None:
    balancer, turn = balancer_of(2), prompt(1, 400)
    first = choose(balancer, turn, IDLE, conversation="s").replica
    balancer.join(first, max_tokens=MAX_TOKENS)

    assert choose(balancer, turn, {first: 1, 1 - first: 0}, conversation="s").rule is Rule.LOAD


def test_only_those_that_take_requests_are_chosen() -> None:
    balancer, turn = balancer_of(3), prompt(1, 400)
    first = choose(balancer, turn, dict.fromkeys(range(3), 0), conversation="s").replica
    others = {one: 50 for one in range(3) if one != first}

    assert choose(balancer, turn, others, conversation="s").replica in others
    [last] = others.keys() - {first, max(others)}
    assert choose(balancer, turn, {last: 10**6}, conversation="s").rule is Rule.ONLY


def test_what_a_replica_must_have_evicted_is_not_counted_on() -> None:
    balancer = balancer_of(2, max_tokens=800)
    old = choose(balancer, prompt(0, 400), IDLE).replica
    for seed in range(1, 30):
        choose(balancer, prompt(seed, 400), IDLE)

    assert max(balancer.count_held_tokens(one) for one in IDLE) <= 800
    again = choose(balancer, prompt(0, 400), {old: 1, 1 - old: 0})
    assert (again.num_held_tokens, again.rule) == (0, Rule.LOAD)


def test_the_bound_follows_a_memory_that_shrinks() -> None:
    balancer = balancer_of(1)
    choose(balancer, prompt(0, 1600), {0: 0})
    balancer.bound(0, 320)

    assert balancer.count_held_tokens(0) == 320
    assert choose(balancer, prompt(0, 1600), {0: 0}).num_held_tokens == 320


@pytest.mark.parametrize("name", ["conversation", "opening"])
def test_balancers_that_know_the_replicas_by_the_same_names_agree(name: str) -> None:
    idle = dict.fromkeys(range(5), 0)
    fronts = [balancer_of(5, seed=seed, prefix="gpu-") for seed in range(3)]

    for number in range(20):
        asked = {name: f"conversation {number}"}
        chosen = {choose(one, prompt(number, 400), idle, **asked).replica for one in fronts}
        assert len(chosen) == 1


def test_a_conversation_that_nobody_knows_is_waited_for_like_any_and_an_opening_is_not() -> None:
    home = choose(balancer_of(5, prefix="gpu-"), (), dict.fromkeys(range(5), 0), conversation="s")
    light = {one: LIGHT_QUEUE_TOKENS if one == home.replica else 0 for one in range(5)}
    heavy = {one: 10 * queue for one, queue in light.items()}

    def elsewhere(queues: dict[int, int], **asked: str) -> Choice:
        return choose(balancer_of(5, prefix="gpu-"), prompt(1, 400), queues, **asked)

    assert elsewhere(light, conversation="s").replica == home.replica
    moved = elsewhere(heavy, conversation="s")
    assert (moved.replica == home.replica, moved.rule) == (False, Rule.LOAD)
    # All that are asked of it move to the same one.
    assert elsewhere(light, opening="s").replica == moved.replica


def test_of_two_replicas_that_are_drawn_for_an_opening_the_shorter_queue_is_taken() -> None:
    drawn = {
        choose(balancer_of(5, prefix="gpu-"), (), queues, opening="s").replica
        for busy in range(5)
        for queues in [{one: 500 + 200 * (one == busy) for one in range(5)}]
    }
    assert len(drawn) == 2


def test_a_prompt_of_which_less_was_held_than_thought_is_not_counted_on_any_more() -> None:
    balancer = balancer_of(1)
    old, new = prompt(0, 400), prompt(1, 400)
    choose(balancer, old, {0: 0})
    again = choose(balancer, old + new, {0: 0})
    choose(balancer, new, {0: 0})
    assert (again.held_since, again.number) == (1, 2)

    balancer.forget_held(0, again.number)

    assert choose(balancer, old, {0: 0}).num_held_tokens == 0
    assert choose(balancer, new, {0: 0}).num_held_tokens == 400


def work_through(balancer: Balancer, *, num_requests: int, num_replicas: int) -> list[float]:
    """Have nine of ten requests begin alike; return the longest queue over the mean, each time.

    Queues hold some ten requests on average: what comes is worked off at the same pace.
    """
    dice, hot = Random(5), prompt(0, 640)  # noqa: S311 - reproducible on purpose
    queues = dict.fromkeys(range(num_replicas), 0)
    ratios = []
    for number in range(num_requests):
        begin = hot if dice.random() < 0.9 else prompt(number + 1000, 640)
        chosen = choose(balancer, begin + prompt(number + 1, 160), queues)
        queues[chosen.replica] += 800 - chosen.num_held_tokens + 64
        if sum(queues.values()) > 10 * num_replicas * LIGHT_QUEUE_TOKENS:
            ratios.append(max(queues.values()) * num_replicas / sum(queues.values()))
            served = sum(queues.values()) // (20 * num_replicas)
            queues = {one: max(0, queue - served) for one, queue in queues.items()}
    return ratios


@pytest.mark.parametrize("num_replicas", [2, 3, 8])
def test_under_a_skewed_load_no_queue_is_over_the_bound(num_replicas: int) -> None:
    ratios = work_through(balancer_of(num_replicas), num_requests=6000, num_replicas=num_replicas)
    assert len(ratios) > 50
    assert max(ratios) <= MAX_IMBALANCE


def play(num_rounds: int, *, is_by_chance: bool) -> float:
    """Let 24 conversations take turns; return the share of prompt tokens that was found.

    The memories of both replicas together hold every conversation once, and not twice.
    """
    dice = Random(3)  # noqa: S311 - reproducible on purpose
    histories = {one: prompt(one, 30 * BLOCK_TOKENS) for one in range(24)}
    balancer = balancer_of(2, max_tokens=13 * (30 + 5 * num_rounds) * BLOCK_TOKENS)
    num_held = num_tokens = 0
    for number in range(num_rounds):
        for one in dice.sample(range(24), 24):
            # What a replica holds is told by the balancer that follows the moves made.
            able = {dice.randrange(2): 0} if is_by_chance else IDLE
            chosen = choose(balancer, histories[one], able)
            num_held += chosen.num_held_tokens
            num_tokens += len(histories[one])
            histories[one] += prompt(100 * number + one, 5 * BLOCK_TOKENS)
    return num_held / num_tokens


def test_conversations_find_more_than_one_and_a_half_times_what_chance_gives() -> None:
    rates = {by_chance: play(6, is_by_chance=by_chance) for by_chance in (True, False)}
    assert rates[False] > 0.6
    assert rates[False] >= 1.5 * rates[True]

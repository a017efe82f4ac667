"""What the choice of a replica keeps to, whatever comes in whatever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mm_orch.optimization.replicas.balancer import Balancer
from mm_orch.optimization.replicas.held_prefixes import BLOCK_TOKENS, HeldPrefixes, name_blocks
from mm_orch.optimization.replicas.offers import LIGHT_QUEUE_TOKENS, MAX_IMBALANCE, Rule

# Few tokens and short prompts: many begin alike.
PROMPTS = st.lists(st.integers(0, 1), max_size=8).map(
    lambda blocks: tuple(token for token in blocks for _ in range(BLOCK_TOKENS))
)
QUEUES = st.dictionaries(st.integers(0, 4), st.integers(0, 20_000), min_size=1)


class Model:
    """The same as HeldPrefixes, told slowly: whole prefixes with the time of their last use."""

    def __init__(self, max_blocks: int) -> None:
        self.max_blocks = max_blocks
        self.used_at: dict[tuple[int, ...], int] = {}
        self.now = 0

    def add(self, prompt: tuple[int, ...]) -> None:
        self.now += 1
        num_blocks = min(len(prompt) // BLOCK_TOKENS, self.max_blocks)
        for count in range(1, num_blocks + 1):
            self.used_at[prompt[: count * BLOCK_TOKENS]] = self.now
        while len(self.used_at) > self.max_blocks:
            # Of those used last at the same time, the longest goes first.
            del self.used_at[min(self.used_at, key=lambda one: (self.used_at[one], -len(one)))]

    def forget(self, used_at: int) -> None:
        self.used_at = {one: time for one, time in self.used_at.items() if time > used_at}

    def find(self, prompt: tuple[int, ...]) -> int:
        held = [one for one in self.used_at if prompt[: len(one)] == one]
        return max(map(len, held), default=0)


@given(st.integers(0, 12), st.lists(PROMPTS, max_size=30), PROMPTS)
def test_what_is_held_is_what_a_tree_that_evicts_leaves_would_hold(
    max_blocks: int, prompts: list[tuple[int, ...]], asked: tuple[int, ...]
) -> None:
    held, model = HeldPrefixes(max_blocks * BLOCK_TOKENS), Model(max_blocks)
    for prompt in prompts:
        held.add(name_blocks(prompt))
        model.add(prompt)

        assert held.num_tokens == len(model.used_at) * BLOCK_TOKENS
    found = held.find(name_blocks(asked))
    assert found.num_tokens == model.find(asked)
    if 0 < found.num_tokens < len(asked):
        end = asked[: found.num_tokens]
        has_children = any(len(one) > len(end) and one[: len(end)] == end for one in model.used_at)
        assert found.is_own is not has_children


@given(st.lists(PROMPTS, max_size=20), st.data())
def test_what_was_lost_is_forgotten_with_all_that_was_used_before_it(
    prompts: list[tuple[int, ...]], data: st.DataObject
) -> None:
    held, model = HeldPrefixes(12 * BLOCK_TOKENS), Model(12)
    for prompt in prompts:
        held.add(name_blocks(prompt))
        model.add(prompt)
    asked = data.draw(st.sampled_from(prompts)) if prompts else ()
    found = held.find(name_blocks(asked))

    held.forget(found.used_at)
    model.forget(found.used_at)

    assert held.num_tokens == len(model.used_at) * BLOCK_TOKENS
    for prompt in prompts:
        assert held.find(name_blocks(prompt)).num_tokens == model.find(prompt)
    # What is added later is counted as before.
    for prompt in prompts:
        held.add(name_blocks(prompt))
        model.add(prompt)
        assert held.num_tokens == len(model.used_at) * BLOCK_TOKENS


@given(
    st.integers(0, 3),
    st.lists(st.tuples(PROMPTS, st.sampled_from(["", "a", "b"]), QUEUES), min_size=1, max_size=30),
)
def test_no_queue_over_both_bounds_is_made_longer(
    seed: int, requests: list[tuple[tuple[int, ...], str, dict[int, int]]]
) -> None:
    balancer = Balancer(seed=seed)
    for replica in range(5):
        balancer.join(replica, max_tokens=20 * BLOCK_TOKENS)
    for prompt, conversation, queues in requests:
        chosen = balancer.choose(
            name_blocks(prompt),
            num_tokens=len(prompt) + 20,
            conversation=conversation,
            queued_tokens=queues,
        )

        num_new = len(prompt) + 20 - chosen.num_held_tokens
        queue, shortest = queues[chosen.replica], min(queues.values())
        is_within = queue + num_new <= MAX_IMBALANCE * (sum(queues.values()) + num_new) / len(
            queues
        )
        saves_time = queue - shortest <= chosen.num_held_tokens
        is_light = queue <= LIGHT_QUEUE_TOKENS and (saves_time or chosen.rule is Rule.SESSION)
        assert is_within or is_light or queue == shortest
        assert num_new >= 20


@given(st.integers(), st.lists(st.tuples(PROMPTS, QUEUES), max_size=20))
def test_the_same_seed_gives_the_same_choices(
    seed: int, requests: list[tuple[tuple[int, ...], dict[int, int]]]
) -> None:
    def play() -> list[int]:
        balancer = Balancer(seed=seed)
        for replica in range(5):
            balancer.join(replica, max_tokens=1000)
        return [
            balancer.choose(
                name_blocks(prompt), num_tokens=len(prompt), conversation="", queued_tokens=queues
            ).replica
            for prompt, queues in requests
        ]

    assert play() == play()

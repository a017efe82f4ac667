"""What the choice of a replica keeps to, whatever comes in whatever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mm_orch.core.generation import GenerationOptions
from mm_orch.optimization.replica_set import wish_of
from mm_orch.optimization.replicas.balancer import Balancer
from mm_orch.optimization.replicas.held_prefixes import BLOCK_TOKENS, HeldPrefixes, name_blocks
from mm_orch.optimization.replicas.offers import LIGHT_QUEUE_TOKENS, MAX_IMBALANCE, Rule
from mm_orch.workers.queued_tokens import QueuedTokens

# Few tokens and short prompts: many begin alike.
PROMPTS = st.lists(st.integers(0, 1), max_size=8).map(
    lambda blocks: tuple(token for token in blocks for _ in range(BLOCK_TOKENS))
)
QUEUES = st.dictionaries(st.integers(0, 4), st.integers(0, 20_000), min_size=1)
# Of these, many are close to the bound.
EVEN_QUEUES = st.lists(st.integers(3000, 8000), min_size=2, max_size=3).map(
    lambda queues: dict(enumerate(queues))
)


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


OPTIONS = st.builds(
    GenerationOptions,
    max_tokens=st.none() | st.integers(1, 5000),
    num_choices=st.integers(1, 16),
)


def count_added(prompt: tuple[int, ...], options: GenerationOptions, num_held: int) -> int:
    """Return what a request that is submitted adds to its worker's queue."""
    queued = QueuedTokens()
    for index in range(options.num_choices):
        queued.add(
            str(index),
            num_prompt_tokens=len(prompt) - num_held,
            max_output_tokens=options.max_tokens or 10**6,
        )
    return queued.total


@given(
    st.integers(0, 3),
    st.lists(
        st.tuples(PROMPTS, OPTIONS, st.sampled_from(["", "a", "b"]), QUEUES | EVEN_QUEUES),
        min_size=1,
        max_size=30,
    ),
)
def test_no_queue_over_both_bounds_is_made_longer(
    seed: int, requests: list[tuple[tuple[int, ...], GenerationOptions, str, dict[int, int]]]
) -> None:
    balancer = Balancer(seed=seed)
    for replica in range(5):
        balancer.join(replica, max_tokens=20 * BLOCK_TOKENS)
    for prompt, options, conversation, queues in requests:
        wish = wish_of(prompt, options, conversation)
        chosen = balancer.choose(
            wish.names,
            num_tokens=wish.num_tokens,
            num_sequences=wish.num_sequences,
            conversation=wish.conversation,
            queued_tokens=queues,
        )

        num_new = count_added(prompt, options, chosen.num_held_tokens)
        queue, shortest = queues[chosen.replica], min(queues.values())
        is_within = queue + num_new <= MAX_IMBALANCE * (sum(queues.values()) + num_new) / len(
            queues
        )
        saves_time = queue - shortest <= chosen.num_held_tokens
        is_light = queue <= LIGHT_QUEUE_TOKENS and (saves_time or chosen.rule is Rule.SESSION)
        assert is_within or is_light or queue == shortest


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

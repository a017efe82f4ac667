from __future__ import annotations

from mm_orch.batching.scheduler import StepLimits, schedule
from mm_orch.core.generation import SamplingParams
from mm_orch.kv_cache.cache import KVCache
from mm_orch.optimization.engines.contract import Sequence

SIZE = 4


class Situation:
    """Sequences in the state that a scheduler finds them in, over a real cache."""

    def __init__(self, num_blocks: int = 1000) -> None:
        self.cache = KVCache(num_blocks, SIZE)
        self.running: list[Sequence] = []
        self.waiting: list[Sequence] = []
        self.arrival = 0

    def add(
        self, name: str, num_prompt: int, *, priority: int = 0, like: Sequence | None = None
    ) -> Sequence:
        sequence = self._make(name, num_prompt, priority)
        if like is not None:
            sequence.token_ids = [*like.token_ids[: num_prompt - 1], 7]
        self.waiting.append(sequence)
        return sequence

    def run(
        self, name: str, num_prompt: int, *, num_computed: int, num_output: int = 0
    ) -> Sequence:
        sequence = self._make(name, num_prompt, 0)
        sequence.block_ids, _ = self.cache.open(name, sequence.token_ids)
        self.cache.grow(name, num_computed)
        sequence.token_ids.extend([1] * num_output)
        sequence.num_computed_tokens = num_computed
        self.running.append(sequence)
        return sequence

    def plan(self, size: int, tokens: int) -> tuple[list[tuple[str, int]], list[str]]:
        limits = StepLimits(max_batch_size=size, max_prompt_tokens=tokens)
        plan = schedule(self.running, self.waiting, limits, self.cache)
        batch = [(s.sequence.sequence_id, s.num_new_tokens) for s in plan.batch]
        return batch, [sequence.sequence_id for sequence in plan.preempted]

    def _make(self, name: str, num_prompt: int, priority: int) -> Sequence:
        self.arrival += 1
        # No two begin alike.
        token_ids = list(range(self.arrival * 1000, self.arrival * 1000 + num_prompt))
        return Sequence(
            sequence_id=name,
            token_ids=token_ids,
            params=SamplingParams(max_tokens=9),
            priority=priority,
            arrival=self.arrival,
        )


def test_running_sequences_come_before_newcomers() -> None:
    situation = Situation()
    situation.run("old", 5, num_computed=5, num_output=1)
    situation.add("new", 3)

    assert situation.plan(8, 100) == ([("old", 1), ("new", 3)], [])


def test_the_batch_never_exceeds_its_size() -> None:
    situation = Situation()
    for name in "abcde":
        situation.add(name, 2)

    assert situation.plan(3, 100) == ([("a", 2), ("b", 2), ("c", 2)], [])


def test_a_long_prompt_is_taken_in_chunks() -> None:
    for num_computed, expected in ((10, 10), (20, 5)):
        situation = Situation()
        situation.run("long", 25, num_computed=num_computed)
        assert situation.plan(4, 10) == ([("long", expected)], [])


def test_prompts_share_the_budget_in_order_of_arrival() -> None:
    situation = Situation()
    for name in "abc":
        situation.add(name, 6)

    assert situation.plan(4, 10) == ([("a", 6), ("b", 4)], [])


def test_decoding_costs_no_prompt_budget() -> None:
    situation = Situation()
    for name in "abc":
        situation.run(name, 4, num_computed=4, num_output=1)
    situation.add("new", 10)

    assert situation.plan(8, 10) == ([("a", 1), ("b", 1), ("c", 1), ("new", 10)], [])


def test_one_at_a_time_leaves_the_others_waiting() -> None:
    situation = Situation()
    situation.run("first", 4, num_computed=4, num_output=1)
    situation.add("second", 4)

    assert situation.plan(1, 100) == ([("first", 1)], [])


def test_out_of_blocks_the_youngest_gives_way() -> None:
    situation = Situation(num_blocks=3)
    situation.run("old", 4, num_computed=4, num_output=1)
    situation.run("middle", 4, num_computed=4)
    situation.run("young", 4, num_computed=4, num_output=1)

    # Old needs a second block for its new token.
    batch, preempted = situation.plan(8, 100)

    assert preempted == ["young"]
    assert ("old", 1) in batch


def test_a_prompt_takes_a_smaller_chunk_before_anybody_is_preempted() -> None:
    situation = Situation(num_blocks=3)
    situation.run("long", 12, num_computed=4)
    situation.run("other", 4, num_computed=3)

    assert situation.plan(8, 100) == ([("long", 4), ("other", 1)], [])


def test_a_newcomer_waits_until_its_whole_prompt_fits() -> None:
    situation = Situation(num_blocks=4)
    situation.run("old", 4, num_computed=4, num_output=1)
    situation.add("long", 13)
    situation.add("short", 2)

    # Nobody overtakes: the long one would starve behind short ones.
    assert situation.plan(8, 100) == ([("old", 1)], [])


def test_blocks_promised_to_a_prompt_under_way_are_not_given_to_newcomers() -> None:
    situation = Situation(num_blocks=5)
    situation.run("half", 14, num_computed=4)
    situation.add("new", 3)

    assert situation.plan(8, 2) == ([("half", 2)], [])


def test_a_prompt_as_long_as_the_memory_runs_when_it_is_alone() -> None:
    situation = Situation(num_blocks=4)
    situation.add("long", 16)

    assert situation.plan(8, 100) == ([("long", 16)], [])


def test_what_is_cached_costs_no_budget() -> None:
    situation = Situation()
    situation.add("a", 12)
    tokens = situation.waiting[0].token_ids
    situation.cache.open("before", tokens)
    situation.cache.grow("before", 12)
    situation.cache.commit("before", tokens, 12)
    situation.cache.close("before")

    assert situation.plan(8, 100) == ([("a", 4)], [])


def test_who_begins_alike_waits_until_the_beginning_is_computed() -> None:
    situation = Situation()
    first = situation.add("first", 9)
    situation.add("second", 9, like=first)
    situation.add("other", 3)

    assert situation.plan(8, 100) == ([("first", 9)], [])

    first.block_ids, _ = situation.cache.open("first", first.token_ids)
    situation.cache.grow("first", 9)
    situation.cache.commit("first", first.token_ids, 9)
    first.num_computed_tokens = 9
    first.token_ids.append(1)
    situation.running.append(situation.waiting.pop(0))

    # Two blocks of it are kept now, so that one token is left to compute.
    assert situation.plan(8, 100) == ([("first", 1), ("second", 1), ("other", 3)], [])


def test_who_begins_like_a_prompt_that_is_taken_in_waits_for_it() -> None:
    situation = Situation()
    first = situation.run("first", 20, num_computed=8)
    situation.cache.commit("first", first.token_ids, 8)
    situation.add("second", 20, like=first)

    assert situation.plan(8, 100) == ([("first", 12)], [])


def test_prompts_too_short_to_share_a_block_do_not_wait() -> None:
    situation = Situation()
    first = situation.add("first", 3)
    situation.add("second", 3, like=first)

    assert situation.plan(8, 100) == ([("first", 3), ("second", 3)], [])


def test_equal_prompts_of_whole_blocks_do_not_wait_for_what_each_computes_itself() -> None:
    situation = Situation()
    first = situation.add("first", 2 * SIZE)
    situation.cache.open("kept", first.token_ids)
    situation.cache.grow("kept", SIZE)
    situation.cache.commit("kept", first.token_ids, SIZE)
    for name in ("second", "third"):
        situation.add(name, 2 * SIZE).token_ids = list(first.token_ids)

    assert situation.plan(8, 100) == ([("first", 4), ("second", 4), ("third", 4)], [])

from __future__ import annotations

from mm_orch.batching.scheduler import BatchLimits, schedule
from mm_orch.core.generation import SamplingParams
from mm_orch.optimization.engines.contract import Sequence


def make(name: str, num_prompt: int, *, num_computed: int = 0, num_output: int = 0) -> Sequence:
    sequence = Sequence(
        sequence_id=name, token_ids=[1] * num_prompt, params=SamplingParams(max_tokens=9)
    )
    sequence.token_ids.extend([1] * num_output)
    sequence.num_computed_tokens = num_computed
    return sequence


def plan(running: list[Sequence], waiting: list[Sequence], size: int, tokens: int) -> list[object]:
    limits = BatchLimits(max_batch_size=size, max_batch_tokens=tokens)
    return [
        (scheduled.sequence.sequence_id, scheduled.num_new_tokens)
        for scheduled in schedule(running, waiting, limits)
    ]


def test_running_sequences_come_before_newcomers() -> None:
    running = [make("old", 5, num_computed=5, num_output=1)]

    assert plan(running, [make("new", 3)], 8, 100) == [("old", 1), ("new", 3)]


def test_the_batch_never_exceeds_its_size() -> None:
    assert plan([], [make(str(i), 2) for i in range(5)], 3, 100) == [("0", 2), ("1", 2), ("2", 2)]


def test_a_long_prompt_is_taken_in_chunks() -> None:
    assert plan([], [make("long", 25)], 4, 10) == [("long", 10)]
    assert plan([make("long", 25, num_computed=10)], [], 4, 10) == [("long", 10)]
    assert plan([make("long", 25, num_computed=20)], [], 4, 10) == [("long", 5)]


def test_prompts_share_the_budget_in_order_of_arrival() -> None:
    assert plan([], [make("a", 6), make("b", 6), make("c", 6)], 4, 10) == [("a", 6), ("b", 4)]


def test_decoding_costs_no_prompt_budget() -> None:
    running = [make(str(i), 4, num_computed=4, num_output=1) for i in range(3)]

    assert plan(running, [make("new", 10)], 8, 10) == [("0", 1), ("1", 1), ("2", 1), ("new", 10)]


def test_one_at_a_time_leaves_the_others_waiting() -> None:
    running = [make("first", 4, num_computed=4, num_output=1)]

    assert plan(running, [make("second", 4)], 1, 100) == [("first", 1)]

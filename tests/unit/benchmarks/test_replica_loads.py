from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.replica_loads import QueueWatch, count_blocks, imbalance_of, make_skewed
from benchmarks.simulator_check import Pair
from benchmarks.statistics import Verdict
from mm_orch.benchmarking.records import RequestRecord, RunRecord


def count_words(text: str) -> int:
    return len(text.split())


def record(session: int, turn: int, num_prompt: int, num_output: int) -> RequestRecord:
    return RequestRecord(
        session=session,
        turn=turn,
        begin_s=0.0,
        pieces_s=(1.0,),
        end_s=1.0,
        num_prompt_tokens=num_prompt,
        num_output_tokens=num_output,
        num_cached_tokens=0,
    )


def test_the_working_set_is_every_conversation_at_its_end_in_whole_blocks() -> None:
    requests = (record(0, 0, 10, 7), record(0, 1, 30, 3), record(1, 0, 30, 4))
    run = RunRecord(workload="w", load="l", requests=requests, wall_s=1.0, generator_cpu_s=0.0)

    # The last token of an answer was never taken in: 32 and 33 tokens.
    assert count_blocks(run) == 2 + 3


def test_nine_of_ten_conversations_begin_alike() -> None:
    workload = make_skewed(200, seed=1, count_tokens=count_words)

    [(_, most), (_, next_most)] = Counter(one.system for one in workload.sessions).most_common(2)
    assert 160 <= most <= 195
    assert next_most == 1
    assert workload == make_skewed(200, seed=1, count_tokens=count_words)


@pytest.mark.parametrize(
    ("queues", "ratio"), [((3, 3), 1.0), ((0, 8), 2.0), ((0, 0), 1.0), ((1, 2, 6), 2.0)]
)
def test_imbalance_is_the_longest_queue_over_the_mean(
    queues: tuple[int, ...], ratio: float
) -> None:
    assert imbalance_of(queues) == ratio


def test_only_samples_above_a_light_queue_are_judged() -> None:
    watch = QueueWatch()
    watch.samples = [(0, 100), (0, 300), (200, 200)]

    assert watch.loaded(100) == [(0, 300), (200, 200)]
    assert watch.means == [pytest.approx(200 / 3), 200.0]


@pytest.mark.parametrize(
    ("simulated", "verdict"),
    [
        ((1.14,), Verdict.MET),
        ((0.8,), Verdict.MISSED),
        ((1.19,), Verdict.MET),
        ((1.3,), Verdict.MISSED),
    ],
)
def test_the_simulator_has_to_be_near_or_within_the_servers_own_range(
    simulated: tuple[float, ...], verdict: Verdict
) -> None:
    pair = Pair(level="l", figure="p95_s", real=(0.9, 1.0, 1.2), simulated=simulated)

    assert pair.verdict is verdict

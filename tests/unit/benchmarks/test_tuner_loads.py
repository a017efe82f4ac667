from __future__ import annotations

import pytest

from benchmarks.tuner_loads import (
    LOADS,
    OUTPUT_TOKENS,
    Shape,
    Window,
    climb,
    due_times,
    goodput,
    longest_over,
    make_chats,
    windows_of,
)
from mm_orch.benchmarking.records import RequestRecord, RunRecord

SHAPE = Shape(window_s=10.0, num_windows=24, num_judged=6, high=8.0, low=1.0)


def record(end_s: float, total_s: float, *, error: str | None = None) -> RequestRecord:
    return RequestRecord(
        session=0,
        turn=0,
        begin_s=end_s - total_s,
        pieces_s=(),
        end_s=end_s,
        num_output_tokens=40,
        error=error,
        is_turned_away=error == "HTTP 503",
    )


def run_of(*requests: RequestRecord) -> RunRecord:
    return RunRecord(workload="w", load="l", requests=requests, wall_s=20.0, generator_cpu_s=0.0)


def window(p95_s: float | None, good_tokens_per_s: float = 0.0) -> Window:
    return Window(num_answered=9, num_refused=0, p95_s=p95_s, good_tokens_per_s=good_tokens_per_s)


def test_loads_stand_at_what_is_judged() -> None:
    steady, rising, alternating = (LOADS[name](SHAPE) for name in LOADS)

    assert steady == [8.0] * 24
    assert rising[0] == 1.0
    assert rising[:-6] == sorted(set(rising[:-6]))
    assert rising[-6:] == [8.0] * 6
    assert alternating[-6:] == [1.0] * 3 + [8.0] * 3
    assert alternating == alternating[-6:] * 4


def test_requests_come_as_often_as_each_window_says_and_the_same_for_a_seed() -> None:
    rates = [2.0, 40.0] * 20

    times_s = due_times(rates, 10.0, seed=1)

    assert times_s == sorted(due_times(rates, 10.0, seed=1))
    assert times_s != due_times(rates, 10.0, seed=2)
    few = sum(time_s % 20 < 10 for time_s in times_s)
    assert few == pytest.approx(400, rel=0.2)
    assert len(times_s) - few == pytest.approx(8000, rel=0.05)
    assert times_s[-1] < 400


def test_chats_have_lengths_of_their_own_and_are_the_same_for_a_seed() -> None:
    def count_words(text: str) -> int:
        return len(text.split())

    chats = make_chats(200, seed=3, count_tokens=count_words)

    assert chats == make_chats(200, seed=3, count_tokens=count_words)
    lengths = {session.turns[0].num_output_tokens for session in chats.sessions}
    assert min(lengths) >= OUTPUT_TOKENS[0]
    assert max(lengths) <= OUTPUT_TOKENS[1]
    assert len(lengths) > 20
    assert len({session.turns[0].text for session in chats.sessions}) == 200


def test_windows_count_what_ended_in_them_within_the_target() -> None:
    in_time = [record(1.0 + number, 2.0) for number in range(5)]
    late, refused = record(15.0, 6.0), record(16.0, 0.1, error="HTTP 503")

    first, second = windows_of(run_of(*in_time, late, refused), 10.0, 2, target_s=4.0)

    assert first == Window(num_answered=5, num_refused=0, p95_s=2.0, good_tokens_per_s=20.0)
    # One answer alone says nothing of a percentile, and what came late is no goodput.
    assert second == Window(num_answered=1, num_refused=1, p95_s=None, good_tokens_per_s=0.0)


def test_goodput_is_the_mean_of_windows() -> None:
    assert goodput([window(1.0, 30.0), window(9.0, 0.0)]) == 15.0


@pytest.mark.parametrize(
    ("p95s", "longest"),
    [
        ([], 0),
        ([5.0, 6.0, 7.0], 0),
        ([5.0, 3.0, 3.9], 0),
        ([5.0, 3.0, 4.1, 4.2, 3.0, 9.0], 2),
        ([3.0, 5.0, None, 5.0, 5.0, 3.0], 3),
    ],
)
def test_windows_over_the_target_count_once_it_has_been_met(
    p95s: list[float | None], longest: int
) -> None:
    assert longest_over([window(p95_s) for p95_s in p95s], 4.0) == longest


@pytest.mark.parametrize(
    ("worth", "top", "num_asked"),
    [([1, 2, 3, 2, 1], 2, 3), ([5, 4, 3, 2, 1], 0, 4), ([1, 2, 3, 4, 5], 4, 4)],
)
def test_the_best_is_climbed_to_from_neighbour_to_neighbour(
    worth: list[int], top: int, num_asked: int
) -> None:
    asked = set()

    def find(value: int) -> float:
        asked.add(value)
        return worth[value]

    assert climb(range(5), 2, find) == top
    assert len(asked) == num_asked

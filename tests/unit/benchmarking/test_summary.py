from __future__ import annotations

import pytest

from mm_orch.benchmarking.records import RequestRecord, RunRecord
from mm_orch.benchmarking.summary import Spread, find_unequal_work, summarise, summarise_turns


def record(session: int = 0, **given: object) -> RequestRecord:
    values: dict[str, object] = {
        "session": session,
        "turn": 0,
        "begin_s": 1.0,
        "pieces_s": (1.5, 2.0, 3.0),
        "end_s": 3.5,
        "num_prompt_tokens": 100,
        "num_output_tokens": 3,
        "num_cached_tokens": 25,
    }
    return RequestRecord(**{**values, **given})  # type: ignore[arg-type]  # by name


def run(*records: RequestRecord) -> RunRecord:
    return RunRecord(
        workload="w", load="1 client", requests=records, wall_s=4.0, generator_cpu_s=0.006
    )


def test_a_run_becomes_figures() -> None:
    summary = summarise(run(record(0), record(1)))

    assert summary.requests_per_s == 0.5
    assert summary.output_tokens_per_s == 1.5
    assert summary.cached_share == 0.25
    assert summary.ttft == Spread(p50_s=0.5, p95_s=0.5, p99_s=0.5, max_s=0.5)
    assert (summary.gap.p50_s, summary.gap.max_s) == (0.75, 1.0)
    assert summary.total.p50_s == 2.5
    assert summary.time_per_token.p50_s == 1.0
    assert summary.generator_ms_per_token == pytest.approx(1.0)


def test_failed_requests_are_counted_and_give_no_figures() -> None:
    summary = summarise(run(record(0), record(1, error="oh", pieces_s=())))

    assert (summary.num_requests, summary.num_failed) == (2, 1)
    assert summary.requests_per_s == 0.25
    assert summary.num_output_tokens == 3


def test_a_run_without_answers_has_zeros_and_no_fault() -> None:
    summary = summarise(run(record(error="oh", pieces_s=())))

    assert summary.output_tokens_per_s == summary.cached_share == 0.0
    assert summary.ttft == Spread()


def test_a_server_that_turns_requests_away_is_told_from_one_that_fails() -> None:
    away = record(1, error="HTTP 503: full", pieces_s=(), is_turned_away=True)
    summary = summarise(run(record(0), away, record(2, error="oh", pieces_s=())))

    assert (summary.num_failed, summary.num_turned_away) == (2, 1)


def test_the_generators_lateness_is_that_of_first_turns() -> None:
    summary = summarise(run(record(0, late_s=0.25), record(0, turn=1, late_s=0.0)))

    assert summary.late == Spread(p50_s=0.25, p95_s=0.25, p99_s=0.25, max_s=0.25)


def test_one_answer_that_tells_of_the_cache_is_enough() -> None:
    told = record(is_cache_told=True)

    assert summarise(run(record(0), told)).is_cache_told
    assert not summarise(run(record(0))).is_cache_told


def test_turns_are_summed_over_conversations_without_the_failed() -> None:
    first, second = summarise_turns(
        run(
            record(0),
            record(1, num_cached_tokens=75),
            record(0, turn=1, num_cached_tokens=90),
            record(1, turn=1, error="oh", pieces_s=()),
        )
    )

    assert (first.turn, first.num_prompt_tokens, first.cached_share) == (1, 200, 0.5)
    assert (second.turn, second.num_prompt_tokens, second.cached_share) == (2, 100, 0.9)
    assert first.ttft.p50_s == 0.5


def test_percentiles_are_values_that_were_measured() -> None:
    spread = Spread.of([float(number) for number in range(100, 0, -1)])

    assert spread == Spread(p50_s=50.5, p95_s=95.0, p99_s=99.0, max_s=100.0)
    assert Spread.of([1.0, 2.0]).p99_s == 2.0


def test_equal_work_may_be_compared() -> None:
    assert find_unequal_work({"a": run(record(0), record(1)), "b": run(record(0))}) == []


def test_another_number_of_tokens_makes_runs_incomparable() -> None:
    other = run(record(0, num_output_tokens=2))

    assert find_unequal_work({"a": run(record(0)), "b": other}) == [
        "session 0 turn 0: a generated 3 tokens, b 2"
    ]


def test_failures_and_empty_runs_make_runs_incomparable() -> None:
    faults = find_unequal_work({"a": run(record(0, error="oh")), "b": run()})

    assert faults == ["a: session 0 turn 0 failed: oh", "b: no request was sent"]


def test_many_faults_are_counted_not_listed() -> None:
    faults = find_unequal_work({"a": run(*(record(n, error="oh") for n in range(9)))})

    assert len(faults) == 6
    assert faults[-1] == "and 4 more"

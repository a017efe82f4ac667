"""What the benchmark scripts make of runs; the runs themselves need a quiet machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import conversations, headline, peers, results_file
from benchmarks.rounds import Comparison
from benchmarks.stream_gap import Observation, gaps_of
from mm_orch.benchmarking.records import RequestRecord, RunRecord
from mm_orch.benchmarking.summary import summarise
from mm_orch.benchmarking.workloads import Session, Turn, Workload

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture(autouse=True)
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Results go to a folder of the test's own."""
    monkeypatch.setattr(results_file, "_FOLDER", tmp_path)
    return tmp_path


def a_run(rate: float, *, total_s: float = 2.0, ttfts_s: Sequence[float] = (1.0,)) -> RunRecord:
    """A run of one request for each time to a first token."""
    records = tuple(
        RequestRecord(
            session=number,
            turn=0,
            begin_s=0.0,
            pieces_s=(ttft_s, total_s),
            end_s=total_s,
            num_output_tokens=64,
        )
        for number, ttft_s in enumerate(ttfts_s)
    )
    wall_s = len(records) / rate
    return RunRecord(workload="w", load="l", requests=records, wall_s=wall_s, generator_cpu_s=0.0)


def compared(*rounds: dict[str, RunRecord], faults: Sequence[str] = ()) -> Comparison:
    comparison = Comparison(faults=list(faults))
    for one in rounds:
        for name, run in one.items():
            comparison.runs.setdefault(name, []).append(run)
            comparison.summaries.setdefault(name, []).append(summarise(run))
    return comparison


def judge_headline(
    *, batched: float = 13.0, cached: float = 16.0, p95_s: float = 1.0, fault: str = ""
) -> int:
    precisions = dict.fromkeys((headline.NAIVE, headline.BATCHED, headline.CACHED), "bf16")
    short = compared(
        {headline.NAIVE: a_run(1.0), headline.BATCHED: a_run(batched), headline.CACHED: a_run(9.0)},
        faults=[fault] if fault else [],
    )
    long = compared(
        {headline.NAIVE: a_run(1.0), headline.BATCHED: a_run(5.0), headline.CACHED: a_run(cached)}
    )
    arrivals = compared({headline.NAIVE: a_run(1.0), headline.BATCHED: a_run(1.0, total_s=p95_s)})
    return headline._report(short, long, arrivals, rate=0.7, precisions=precisions)


def test_the_headline_is_met_only_when_every_bar_is(results: Path) -> None:
    assert judge_headline() == 0
    assert (
        "| short chats | ours_batched | bf16 | 1 | 13.0 |" in (results / "headline.md").read_text()
    )
    assert (results / "headline.svg").read_text().startswith("<svg")
    assert judge_headline(batched=11.9) == 1
    assert judge_headline(cached=14.9) == 1
    assert judge_headline(p95_s=1.3) == 1
    assert judge_headline(fault="unequal") == 1


def test_a_ratio_to_a_peer_below_its_bar_is_missed() -> None:
    figures: dict[str, object] = {}
    rounds = [{"ours": a_run(10.0), "vllm": a_run(9.0), "openvino": a_run(20.0)}] * 3

    missed = peers._note_throughput(figures, {1: compared(*rounds), 8: compared(*rounds)})

    assert missed == ["ratio_vllm_1"]
    assert figures["ratio_vllm_8"] == [1.111, 1.111, 1.111]
    assert figures["ours_8_tokens_per_s"] == 640.0


def test_the_fastest_of_our_engines_is_held_against_its_own_bars() -> None:
    rounds = [
        {"ours": a_run(2.0), "ours_openvino": a_run(3.0), "vllm": a_run(1.0)},
        {"ours": a_run(2.0), "ours_openvino": a_run(3.3), "vllm": a_run(1.0)},
    ]
    figures: dict[str, object] = {}

    assert peers._judge_best(figures, {1: compared(*rounds), 8: compared(*rounds)}) == []
    assert figures["best"] == "ours_openvino"
    assert figures["best_over_vllm_8"] == "3.150 (3.000 to 3.300), bar 1.15: met"

    slow = [{"ours": a_run(2.0), "llama_cpp_bf16": a_run(2.0)}] * 2
    assert peers._judge_best(figures, {8: compared(*slow)}) == ["best_over_llama_cpp_bf16_8"]


def test_first_tokens_are_judged_against_vllm_and_against_the_repetition() -> None:
    ours = a_run(1.0, ttfts_s=(1.0, 0.1))
    slower, faster = a_run(1.0, ttfts_s=(1.1, 0.1)), a_run(1.0, ttfts_s=(0.9, 0.1))

    assert peers._note_first_tokens({}, compared({"ours": ours, "vllm": slower})) == []
    assert peers._note_first_tokens({}, compared({"ours": ours, "vllm": faster})) == [
        "ttft_first_over_vllm"
    ]
    assert peers._note_first_tokens({}, compared({"ours": a_run(1.0, ttfts_s=(1.0, 0.2))})) == [
        "ttft_repeated_over_first"
    ]


def test_a_gap_counts_when_any_of_it_lies_while_the_prompt_is_taken_in() -> None:
    steady = [0.1 * number for number in range(20)]
    times = (*steady, 2.4, 2.5, 3.5)

    gaps = gaps_of(Observation(arrival_s=2.0, first_text_s=3.0, streams=(times,)))

    assert gaps["median_gap_before_s"] == pytest.approx(0.1)
    assert gaps["largest_gap_during_s"] == pytest.approx(1.0)
    assert gaps["ratio"] == pytest.approx(10.0)
    assert gaps["prompt_ttft_s"] == 1.0


def test_streams_that_say_nothing_about_the_question_are_refused() -> None:
    steady = tuple(0.1 * number for number in range(20))

    with pytest.raises(ValueError, match="give more --tokens"):
        gaps_of(Observation(1.0, 5.0, (steady,)))
    with pytest.raises(ValueError, match="give more --settle"):
        gaps_of(Observation(0.0, 1.0, (steady,)))


class Letters:
    """A tokeniser with one token a letter, and two around each turn."""

    def prompt(self, messages: Sequence[dict[str, str]]) -> list[int]:
        return [ord(c) for turn in messages for c in f"<{turn['content']}>"]

    def answer(self, text: str) -> list[int]:
        return [ord(c) for c in text]


def test_what_is_reusable_is_counted_in_whole_blocks_of_the_turn_before() -> None:
    session = Session(turns=(Turn("q" * 30, 20), Turn("r", 20)))
    workload = Workload(name="w", is_chat=True, sessions=(session, session))
    records = [
        RequestRecord(
            session=number,
            turn=turn,
            begin_s=0,
            pieces_s=(1.0,),
            end_s=1,
            text="<" + "a" * 18,
            num_output_tokens=20 - number,
        )
        for number in (0, 1)
        for turn in (0, 1)
    ]
    run = RunRecord(workload="w", load="l", requests=tuple(records), wall_s=1, generator_cpu_s=0)

    reusable, num_unlike = conversations._reusable_tokens(run, workload, Letters())  # type: ignore[arg-type]  # has all that is used

    # The prompt of 32 is shared, then "<" where the answer's own "<" stands: 33 or 34 tokens.
    assert reusable == 2 * 32
    # Nineteen letters: the first conversation was told to have made twenty tokens of them.
    assert num_unlike == 2

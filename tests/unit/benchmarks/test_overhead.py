"""What the benchmark of the overhead makes of its runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks import overhead_engine, overhead_gateways, results_file
from benchmarks.gateway_contenders import DIRECT, LITELLM, OURS, SMG
from benchmarks.gateway_load import ChatTimes
from benchmarks.overhead_engine import THEIRS, EngineOverhead
from benchmarks.overhead_gateways import GatewayRuns
from benchmarks.rounds import Comparison
from benchmarks.statistics import Ratio, Verdict, bootstrap, judge_at_least, judge_at_most
from mm_orch.benchmarking.records import RequestRecord, RunRecord
from mm_orch.benchmarking.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture(autouse=True)
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Results go to a folder of the test's own."""
    monkeypatch.setattr(results_file, "_FOLDER", tmp_path)
    return tmp_path


def gateway_runs(**added_s: Sequence[float]) -> GatewayRuns:
    """Rounds in which the backend took 1 s and each gateway so much more."""
    measured = GatewayRuns()
    for is_stream in (False, True):
        for name, by_round in added_s.items():
            for more_s in by_round:
                times = [1.0 + more_s] * 4
                run = ChatTimes(
                    totals_s=times, ttfts_s=times if is_stream else [], wall_s=2.0, cpu_s=0.4
                )
                measured.runs[name, is_stream].append(run)
    return measured


def test_an_interval_meets_a_bar_misses_it_or_shows_neither() -> None:
    ratio = Ratio(median=1.0, low=0.9, high=1.1, num_pairs=9)

    at_most = [judge_at_most(ratio, bar) for bar in (1.1, 1.0, 0.8)]
    at_least = [judge_at_least(ratio, bar) for bar in (0.9, 1.0, 1.2)]

    assert at_most == at_least == [Verdict.MET, Verdict.NOT_SHOWN, Verdict.MISSED]


def test_a_figure_of_all_rounds_gets_the_interval_of_other_draws() -> None:
    steady = bootstrap(5, lambda rounds: float(len(rounds)))
    spread = bootstrap(5, lambda rounds: sum(rounds) / len(rounds))

    assert (steady.median, steady.low, steady.high) == (5.0, 5.0, 5.0)
    assert spread.median == 2.0
    assert spread.low < 2.0 < spread.high


def test_a_gateway_adds_what_the_backend_alone_does_not_take() -> None:
    measured = gateway_runs(**{DIRECT: [0.0, 0.0], OURS: [0.002, 0.004]})

    assert measured.added_s(OURS, "whole", 0.5, [0]) == pytest.approx(0.002)
    assert measured.added_s(OURS, "ttft", 0.99) == pytest.approx(0.004)
    assert measured.cpu_ms(OURS, "whole") == pytest.approx(100.0)
    assert measured.busy_cores(OURS) == pytest.approx(0.2)


def test_less_than_timers_tell_counts_as_the_least_they_tell() -> None:
    measured = gateway_runs(**{DIRECT: [0.0], OURS: [-0.5]})

    assert measured.added_s(OURS, "whole", 0.5) == pytest.approx(0.00005)


@pytest.mark.parametrize(("litellm_s", "verdict"), [(0.011, Verdict.MET), (0.009, Verdict.MISSED)])
def test_litellm_must_add_five_times_as_much(litellm_s: float, verdict: Verdict) -> None:
    measured = gateway_runs(
        **{DIRECT: [0.0] * 3, OURS: [0.002] * 3, SMG: [0.001] * 3, LITELLM: [litellm_s] * 3}
    )
    figures: dict[str, object] = {}

    verdicts = overhead_gateways.note_gateways(figures, {16: measured})

    assert set(verdicts.values()) == {verdict}
    assert {name.removeprefix("litellm_over_ours_16_") for name in verdicts} == {
        "whole_p50",
        "whole_p99",
        "ttft_p50",
        "ttft_p99",
    }
    assert figures["ours_over_smg_16_ttft_p50"] == [2.0, 2.0, 2.0]
    rows = overhead_gateways.rows_of(figures, {16: measured})
    assert [row[0] for row in rows] == [OURS, SMG, LITELLM]
    assert rows[1][2:] == ("1", "1", "1", "1", "100", "100", "0.2")
    ratios = overhead_gateways.ratio_rows_of(figures, verdicts)
    assert ("ours_over_smg_16_ttft_p50", "2 (2 to 2)", "") in ratios
    assert {row[2] for row in ratios} == {"", verdict.value}


def test_failed_requests_are_told_with_their_gateway() -> None:
    measured = gateway_runs(**{DIRECT: [0.0]})
    measured.runs[SMG, True].append(ChatTimes(faults=["HTTP 500: no", "HTTP 500: no"]))

    assert measured.faults == ["smg: HTTP 500: no (2 of these)"]


def engine_rounds(*, cpu_s: float) -> EngineOverhead:
    comparison = Comparison()
    for name, one_s in ((overhead_engine.OURS, cpu_s), (THEIRS, 2.0)):
        record = RequestRecord(
            session=0,
            turn=0,
            begin_s=0.0,
            pieces_s=(0.5, 1.0),
            end_s=1.0,
            num_output_tokens=2,
        )
        run = RunRecord(workload="w", load="l", requests=(record,), wall_s=1.0, generator_cpu_s=0.0)
        comparison.summaries[name] = [summarise(run)] * 3
        comparison.cpu_s[name] = [one_s] * 3
    return EngineOverhead(idle_cpu_s={THEIRS: 0.01}, notes={}, by_streams={8: comparison})


def test_processor_time_and_both_latencies_are_held_against_vllm() -> None:
    figures: dict[str, object] = {}

    verdicts = overhead_engine.note_engine(figures, engine_rounds(cpu_s=2.2))

    assert verdicts == {
        "ratio_8_cpu_s_per_request": Verdict.MISSED,
        "ratio_8_ttft_p50_s": Verdict.MET,
        "ratio_8_inter_token_p50_s": Verdict.MET,
    }
    assert figures["ratio_8_cpu_s_per_request"] == [1.1, 1.1, 1.1]
    assert figures["vllm_server_idle_cores"] == 0.01


def test_the_rows_give_both_medians_and_the_verdict() -> None:
    rows = overhead_engine.rows_of(engine_rounds(cpu_s=2.0))

    assert rows[0] == ("cpu_s_per_request", 8, "2", "2", "1 (1 to 1)", "met")
    assert rows[-1][-1] == ""


def test_the_benchmark_passes_only_when_all_bars_are_met(results: Path) -> None:
    assert results_file.report("overhead", {}, [], {"a": Verdict.MET}) == 0
    assert results_file.report("overhead", {}, [], {"a": Verdict.MET, "b": Verdict.NOT_SHOWN}) == 1
    assert results_file.report("overhead", {}, ["failed"], {"a": Verdict.MET}) == 1
    assert results_file.report("overhead", {}, [], {}) == 1
    assert json.loads((results / "overhead.json").read_text())["verdicts"] == {}

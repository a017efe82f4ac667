"""What the benchmark of workers on Ray makes of its runs."""

from __future__ import annotations

import pytest

from benchmarks import cluster_runs
from benchmarks.cluster_runs import ECHO, HEAD, LOCAL, MODEL, RAY, Load
from benchmarks.rounds import Comparison
from benchmarks.statistics import Verdict
from mm_orch.benchmarking.records import RequestRecord, RunRecord
from mm_orch.benchmarking.summary import summarise

NUM_TOKENS = 10


def run_of(ttft_s: float) -> RunRecord:
    record = RequestRecord(
        session=0,
        turn=0,
        begin_s=0.0,
        pieces_s=(ttft_s, 2.0),
        end_s=2.0,
        num_output_tokens=NUM_TOKENS,
    )
    return RunRecord(workload="w", load="l", requests=(record,), wall_s=2.0, generator_cpu_s=0.0)


def load_of(
    added_ms: list[float], *, label: str = MODEL, num_streams: int = 1, daemons_s: float = 0.0
) -> Load:
    """Pairs of runs of 1 s of processor time each, on Ray 0.4 s of it under the actor."""
    comparison = Comparison()
    for name, ttfts_s in ((LOCAL, [0.1] * 3), (RAY, [0.1 + one / 1000 for one in added_ms])):
        comparison.runs[name] = [run_of(ttft_s) for ttft_s in ttfts_s]
        comparison.summaries[name] = [summarise(run) for run in comparison.runs[name]]
        comparison.cpu_s[name] = [1.0 if name == LOCAL else 0.6] * 3
        comparison.metered_s[name] = {"actors": [0.4] * 3, "daemons": [daemons_s] * 3}
    return Load(
        label=label,
        engine="e",
        num_streams=num_streams,
        num_requests=1,
        comparison=comparison,
    )


@pytest.mark.parametrize(
    ("added_ms", "daemons_s", "verdicts"),
    [
        ([1.0, 2.0, 3.0], 0.05, [Verdict.MET, Verdict.MET, Verdict.MET]),
        ([1.0, 2.0, 8.0], 0.2, [Verdict.NOT_SHOWN, Verdict.MET, Verdict.MISSED]),
        ([6.0, 7.0, 8.0], 0.05, [Verdict.MISSED, Verdict.MET, Verdict.MET]),
    ],
)
def test_added_time_and_processor_time_are_judged_with_and_without_rays_daemons(
    added_ms: list[float], daemons_s: float, verdicts: list[Verdict]
) -> None:
    measured = [load_of(added_ms, daemons_s=daemons_s)]
    figures: dict[str, object] = {}

    told = cluster_runs.note(figures, measured)

    names = ["model_1_added_ttft", "model_1_cpu", "model_1_cpu_with_daemons"]
    assert told == dict(zip(names, verdicts, strict=True))
    assert figures["model_1_local_cpu_ms_per_token"] == 100.0
    assert figures["model_1_ray_cpu_ms_per_token"] == 100.0
    assert figures["model_1_daemons_share_of_a_core"] == daemons_s / 2
    [row] = cluster_runs.rows_of(measured)
    assert len(row) == len(HEAD)
    assert [row[5], row[9], row[12]] == [verdict.value for verdict in verdicts]


def test_where_streams_wait_for_one_another_the_first_token_has_no_bar() -> None:
    told = cluster_runs.note({}, [load_of([9.0] * 3, num_streams=8)])

    assert set(told) == {"model_8_cpu", "model_8_cpu_with_daemons"}


def test_the_echo_engine_has_no_bar() -> None:
    measured = [load_of([0.2] * 3, label=ECHO)]
    figures: dict[str, object] = {}

    assert cluster_runs.note(figures, measured) == {}
    assert figures["echo_1_added_ttft_ms"] == [0.2, 0.2, 0.2]

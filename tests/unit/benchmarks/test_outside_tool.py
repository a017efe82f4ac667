from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.contenders import Contender
from benchmarks.outside_tool import (
    TOLERANCES,
    OtherLoadError,
    data_of,
    figures_of,
    pinned,
    read_figures,
    split_cores,
    vary_lengths,
)
from benchmarks.statistics import Ratio, Verdict, judge_within
from mm_orch.benchmarking.summary import summarise
from mm_orch.benchmarking.workloads import Session, Turn, Workload
from tests.unit.benchmarks.test_judging import a_run

if TYPE_CHECKING:
    from pathlib import Path


def told(num_answered: int = 4) -> dict[str, Any]:
    """What guidellm 0.8 writes, as far as it is read."""
    metrics = {
        "request_totals": {"successful": num_answered, "errored": 0},
        "requests_per_second": {"successful": {"mean": 2.0, "median": 9.0}},
        "time_to_first_token_ms": {"successful": {"mean": 9.0, "median": 1000.0}},
        "inter_token_latency_ms": {"successful": {"mean": 9.0, "median": 15.9}},
        "request_latency": {"successful": {"mean": 9.0, "median": 2.0}},
    }
    return {"benchmarks": [{"metrics": metrics}]}


def test_both_tools_figures_have_the_same_names_and_units() -> None:
    theirs = read_figures(told(), 4)
    mine = figures_of(summarise(a_run(2.0)))

    assert theirs == {"requests_per_s": 2.0, "ttft_ms": 1000.0, "itl_ms": 15.9, "e2e_ms": 2000.0}
    assert mine == pytest.approx(theirs, rel=0.01)
    assert mine.keys() == TOLERANCES.keys()


def test_a_load_that_was_not_answered_whole_is_not_compared() -> None:
    with pytest.raises(OtherLoadError, match=r"to have 4 requests answered: .*3"):
        read_figures(told(3), 4)


def test_answers_have_many_lengths_and_together_the_same_one() -> None:
    same = Workload(
        name="w", is_chat=True, sessions=tuple(Session(turns=(Turn("a", 64),)) for _ in range(16))
    )

    varied = vary_lengths(same)
    lengths = [session.turns[0].num_output_tokens for session in varied.sessions]

    assert [session.turns[0].text for session in varied.sessions] == ["a"] * 16
    assert len(set(lengths)) == 16
    assert 32 <= min(lengths) < max(lengths) <= 96
    assert sum(lengths) / 16 == pytest.approx(64, rel=0.05)


def test_prompts_are_handed_over_with_their_lengths() -> None:
    sessions = (Session(turns=(Turn('say "a"', 8),)), Session(turns=(Turn("b", 9),)))
    data = data_of(Workload(name="w", is_chat=True, sessions=sessions))

    assert [json.loads(line) for line in data.splitlines()] == [
        {"prompt": 'say "a"', "output_tokens_count": 8},
        {"prompt": "b", "output_tokens_count": 9},
    ]


@pytest.mark.parametrize(
    ("cores", "server", "tools"),
    [([3], [3], [3]), ([0, 1], [0], [1]), ([0, 2, 4], [0], [2, 4]), ([0, 1, 2, 3], [0, 1], [2, 3])],
)
def test_the_tools_keep_off_the_servers_cores(
    cores: list[int], server: list[int], tools: list[int]
) -> None:
    assert split_cores(cores) == (server, tools)


def test_a_pinned_server_is_the_same_command_on_these_cores(tmp_path: Path) -> None:
    code = "import os, sys; print(sorted(os.sched_getaffinity(0)), *sys.argv[1:])"
    plain = Contender(
        name="n",
        precision="p",
        command=lambda port, _: [sys.executable, "-c", code, str(port)],
        model="m",
    )
    first = min(os.sched_getaffinity(0))
    command = pinned(plain, [first]).command(81, tmp_path)
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert said == f"[{first}] 81\n"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.96, 1.04, Verdict.MET),
        (1.0, 1.05, Verdict.MET),
        (0.94, 1.0, Verdict.NOT_SHOWN),
        (1.0, 1.06, Verdict.NOT_SHOWN),
        (0.5, 2.0, Verdict.NOT_SHOWN),
        (1.06, 1.2, Verdict.MISSED),
        (0.8, 0.94, Verdict.MISSED),
    ],
)
def test_agreement_needs_the_whole_interval(low: float, high: float, verdict: Verdict) -> None:
    ratio = Ratio(median=(low + high) / 2, low=low, high=high, num_pairs=5)

    assert judge_within(ratio, 0.05) is verdict

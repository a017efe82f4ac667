"""The benchmark's command against a peer with a script; e2e tests let it start its own server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mm_orch.cli import benchmark
from mm_orch.cli.program import run

if TYPE_CHECKING:
    from tests.unit.cli.scripted_server import Script


@pytest.fixture(autouse=True)
def _own_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Count words, so that no model is needed, and leave the process's signals alone."""
    monkeypatch.setattr(benchmark, "_counter", lambda *_: lambda text: len(text.split()))
    monkeypatch.setattr(benchmark.signal, "signal", lambda *_: None)
    monkeypatch.chdir(tmp_path)


def test_a_running_server_is_measured_and_the_report_is_named(
    peer: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["--benchmark", "--quick", "--url", peer.url, "--benchmark-output", "out"])

    assert code == 0
    told = capsys.readouterr()
    assert "Report: out/benchmark.json" in told.out
    assert "Page with plots: out/benchmark.html" in told.out
    assert "8 clients: 100%" in told.err
    content = json.loads(Path("out/benchmark.json").read_text())
    assert [one["num_clients"] for one in content["runs"]] == [1, 4, 8]
    assert [one["num_output_tokens"] for one in content["runs"]] == [8, 8, 16]
    assert content["engine"] == "pytorch"
    assert content["peak_memory_bytes"] is None
    # The script says two tokens where 32 are asked for.
    assert "16 answers were shorter than asked for" in content["notes"][-1]
    assert {body["ignore_eos"] for body in peer.requests} == {True}
    # Eight prompts, and four for each smaller level, and one before.
    assert len({str(body["messages"]) for body in peer.requests}) == 17


def test_csv_is_written_where_it_is_asked_for(peer: Script) -> None:
    words = ["--benchmark", "--quick", "--url", peer.url, "--benchmark-format", "csv"]

    assert run(words) == 0
    assert Path("benchmark-results/benchmark.csv").read_text().startswith("workload,load,")


def test_requests_that_fail_end_with_1_and_are_in_the_report(
    peer: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.refusal = (503, b"full")

    assert run(["--benchmark", "--quick", "--url", peer.url]) == 1
    assert "some requests failed, such as short_chat at 1 client" in capsys.readouterr().err
    content = json.loads(Path("benchmark-results/benchmark.json").read_text())
    assert "HTTP 503: full" in content["faults"][0]


def test_a_model_that_is_not_served_is_wrong_usage(
    peer: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--benchmark", "--url", peer.url, "--model", "other"]) == 2
    assert "other is not served" in capsys.readouterr().err


def test_an_unknown_model_of_our_own_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--benchmark", "--model", "other"]) == 2
    assert "No model is named 'other'" in capsys.readouterr().err


def test_a_server_that_does_not_answer_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    # Nothing listens on the discard port.
    assert run(["--benchmark", "--url", "http://127.0.0.1:9"]) == 1
    assert "No server answers at http://127.0.0.1:9" in capsys.readouterr().err


def test_a_report_that_has_no_place_is_said_before_anything_runs(
    peer: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken").write_text("")

    assert run(["--benchmark", "--url", peer.url, "--benchmark-output", "taken"]) == 1
    assert "taken cannot hold the report: File exists." in capsys.readouterr().err
    assert peer.requests == []

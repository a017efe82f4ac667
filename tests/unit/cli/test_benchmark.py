"""The benchmark's command against a peer with a script; e2e tests let it start its own server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mm_orch.cli import benchmark, benchmark_subject
from mm_orch.cli.program import run
from mm_orch.config import load_config

if TYPE_CHECKING:
    from tests.unit.cli.scripted_server import Script


@pytest.fixture(autouse=True)
def _own_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Count words, so that no model is needed, and leave the process's signals alone."""
    monkeypatch.setattr(benchmark_subject, "_counter", lambda *_: lambda text: len(text.split()))
    monkeypatch.setattr(benchmark.signal, "signal", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    for name in ("MUAI_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


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
    # The script says two tokens where 8 or 32 are asked for.
    num_asked = sum(
        row["num_requests"]
        for kind in ("runs", "lengths", "arrivals", "other_workloads")
        for row in content[kind]
    )
    assert f"{num_asked} answers were shorter than asked for" in " ".join(content["notes"])
    assert {body["ignore_eos"] for body in peer.requests} == {True}
    # No prompt comes twice; one came before all others.
    assert len({str(body["messages"]) for body in peer.requests}) == num_asked + 1


def test_what_was_asked_for_is_measured_and_stated(peer: Script) -> None:
    words = ["--benchmark", "--quick", "--url", peer.url, "--objective", "e2e=60000"]

    assert run(words) == 0
    content = json.loads(Path("benchmark-results/benchmark.json").read_text())
    lengths = [(one["prompt_length"], one["output_length"]) for one in content["lengths"]]
    assert lengths == [(64, 8), (64, 32), (512, 8), (512, 32)]
    most = max(one["requests_per_s"] for one in content["runs"])
    for share, one in zip((0.5, 0.9), content["arrivals"], strict=True):
        assert one["share_of_most"] == share
        # Both are told rounded.
        assert float(one["load"].removesuffix(" requests/s")) == pytest.approx(
            share * most, rel=0.01
        )
        assert one["num_requests"] == one["num_good"]
    assert [turn["turn"] for turn in content["turns"]] == [1, 2, 3, 4]
    assert content["turns"][0]["cached_share"] == pytest.approx(8 / 30, abs=1e-4)
    assert content["objective"] == {"ttft_ms": None, "itl_ms": None, "e2e_ms": 60000}
    assert (content["ready_s"], content["precision"]) == (None, "bf16 on cpu")
    assert content["versions"] == {"muai": "0.1.0"}


def test_an_objective_that_nobody_meets_is_said(
    peer: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--benchmark", "--quick", "--url", peer.url, "--objective", "ttft=0.0001"]

    assert run(words) == 0
    told = capsys.readouterr().out
    assert "goodput: none, no request met the objective (first text within 0.0001 ms)" in told


def test_a_server_that_refuses_ignore_eos_is_asked_without_it(peer: Script) -> None:
    peer.refused_field = "ignore_eos"

    assert run(["--benchmark", "--quick", "--url", peer.url]) == 0
    content = json.loads(Path("benchmark-results/benchmark.json").read_text())
    assert "The server refuses ignore_eos" in " ".join(content["notes"])
    assert ["ignore_eos" in body for body in peer.requests[:2]] == [True, False]


@pytest.mark.parametrize("name", ["MUAI_API_KEY", "OPENAI_API_KEY"])
def test_the_key_comes_from_the_environment(
    peer: Script, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    peer.key = "sesame"
    monkeypatch.setenv(name, "sesame")

    assert run(["--benchmark", "--quick", "--url", peer.url]) == 0


@pytest.mark.parametrize(
    ("host", "variables", "key"),
    [
        ("127.0.0.1", {}, "of-a-file"),
        ("::1", {}, "of-a-file"),
        ("example.org", {}, None),
        ("example.org", {"OPENAI_API_KEY": "openais"}, "openais"),
        ("example.org", {"OPENAI_API_KEY": "openais", "MUAI_API_KEY": "muais"}, "muais"),
        ("127.0.0.1", {"MUAI_API_KEY": "muais"}, "muais"),
        ("127.0.0.1", {"MUAI_API_KEY": "  "}, "of-a-file"),
    ],
)
def test_a_key_of_a_file_is_told_to_no_other_machine(
    host: str, variables: dict[str, str], key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    Path("muai.yaml").write_text("api: {api_keys: [of-a-file]}")
    config = load_config(path=Path("muai.yaml"), environ={}, overrides={}).config

    assert benchmark_subject.find_key(config, host) == key


def test_a_server_that_wants_a_key_is_said_to(
    peer: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.key = "sesame"

    assert run(["--benchmark", "--quick", "--url", peer.url]) == 1
    told = capsys.readouterr().err
    assert "HTTP 401" in told
    assert "Give its key in MUAI_API_KEY or OPENAI_API_KEY." in told


def test_csv_is_written_where_it_is_asked_for(peer: Script) -> None:
    words = ["--benchmark", "--quick", "--url", peer.url, "--benchmark-format", "csv"]

    assert run(words) == 0
    assert Path("benchmark-results/benchmark.csv").read_text().startswith("workload,load,")


def test_requests_that_fail_end_with_1_and_are_in_the_report(
    peer: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.refusal = (503, b"full")
    peer.num_answered = 5

    assert run(["--benchmark", "--quick", "--url", peer.url]) == 1
    assert "some requests failed, such as short_chat at 4 clients" in capsys.readouterr().err
    content = json.loads(Path("benchmark-results/benchmark.json").read_text())
    assert "HTTP 503: full" in content["faults"][0]
    # Arrivals that are turned away are no fault: they are counted.
    assert all(one["num_turned_away"] == one["num_requests"] for one in content["arrivals"])
    assert not any("requests/s" in fault for fault in content["faults"])


def test_a_server_that_answers_nothing_is_said_at_once(
    peer: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.refusal = (500, b"no weights")

    assert run(["--benchmark", "--quick", "--url", peer.url]) == 1
    assert "does not answer a first request to smollm2-135m: HTTP 500: no weights." in (
        capsys.readouterr().err
    )
    assert len(peer.requests) == 1


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


def test_a_disk_that_is_full_in_the_end_is_said(
    peer: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out").mkdir()
    Path("out/benchmark.json").symlink_to("/dev/full")
    words = ["--benchmark", "--quick", "--url", peer.url, "--benchmark-output", "out"]

    assert run(words) == 1
    told = capsys.readouterr()
    assert "out cannot hold the report: No space left on device." in told.err
    assert "Report:" not in told.out


def test_what_cannot_be_opened_while_it_measures_is_not_taken_for_the_reports_place(
    peer: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/models/weights")

    monkeypatch.setattr(benchmark, "measure", fail)

    with pytest.raises(PermissionError, match="/models/weights"):
        run(["--benchmark", "--quick", "--url", peer.url])
    assert "cannot hold the report" not in capsys.readouterr().err

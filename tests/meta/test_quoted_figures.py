"""Where the figures that pages quote were taken, and those that stand in sentences."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.meta.test_docs import PAGES

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"
PAGE = (ROOT / "docs/benchmarks.md").read_text()
ROWS = {
    name: row
    for name, row in re.findall(r"^\| `(\w+)` \|(.*)$", PAGE, re.MULTILINE)
    if (RESULTS / f"{name}.json").exists()
}
README_ROWS = re.findall(
    r"^\|.*`python -m benchmarks\.\w+` \|$", PAGES[0].read_text(), re.MULTILINE
)
SECTIONS = {"tuner": "The tuner", "overload": "Overload", "soak": "Soak"}


def _read(name: str) -> dict[str, Any]:
    return dict(json.loads((RESULTS / f"{name}.json").read_text()))


def _section(title: str) -> str:
    """Return a section of the page as one line."""
    return " ".join(PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0].split())


def _kind(machine: str) -> str:
    return "Intel Xeon" if machine.startswith("Intel(R) Xeon(R)") else machine.partition(",")[0]


def _interval(estimate: list[float], digits: int) -> str:
    middle, low, high = (f"{value:.{digits}f}" for value in estimate)
    return f"{middle} ({low} to {high})"


@pytest.mark.parametrize("name", ROWS)
def test_a_row_names_the_machine_of_its_result_if_it_is_not_the_usual_one(name: str) -> None:
    machine = _read(name)["machine"]

    assert len(ROWS) > 12
    assert machine.endswith(", 2 cores, Python 3.11.7")
    assert ("Intel Xeon" in ROWS[name]) == (_kind(machine) == "Intel Xeon")
    assert _kind(machine) in {"Intel Xeon", "AMD EPYC"}


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_names_day_and_machine_of_its_result(name: str) -> None:
    result = _read(name)
    taken = f"{result['date']}, {_kind(result['machine'])}"

    assert re.search(rf"{taken}\b", _section(SECTIONS[name])), taken


@pytest.mark.parametrize("row", README_ROWS)
def test_a_row_of_the_readme_names_day_and_machine_of_its_result(row: str) -> None:
    [name] = re.findall(r"benchmarks\.(\w+)", row)
    result = _read(name)

    assert len(README_ROWS) >= 4
    assert result["date"] in row
    assert _kind(result["machine"]) in row


def test_what_is_told_of_overload_was_measured() -> None:
    result = _read("overload")
    told = [
        f"of {result['num_offered']:,} requests {result['num_accepted']} were let in",
        f"p95 was {result['accepted_p95_ratio']:g} times that of the saturated server",
        f"told after {result['refusal_p50_ms']:g} ms (p99 {result['refusal_p99_ms']:g}, bar 50;"
        f" the longest {result['refusal_max_ms']:g})",
        f"refused {result['patient_num_refused_first']} times and in at its first return",
        f"after {result['patient_wait_max_s']:g} s at most",
        f"grew by {result['server_memory_mib_per_min'][0]:g} MiB a minute in the server (bar 1)",
        f"took {result['urgent_ttft_p50_ratio']:g} times as long as without load",
        f"{result['urgent_ttft_p95_ratio']:g} times at p95 ({result['urgent_ttft_p95_s']:g} s for"
        f" {result['unloaded_ttft_p95_s']:g}: missed)",
    ]

    assert result["patient_tries_most"] == 2
    assert [key for key, verdict in result["verdicts"].items() if verdict != "met"] == [
        "urgent_ttft_p95"
    ]
    assert [phrase for phrase in told if phrase not in _section("Overload")] == []


def test_what_is_told_of_the_soak_was_measured() -> None:
    result = _read("soak")
    done = result["operations"]
    told = [
        f"{result['num_started']:,} requests were sent and ended",
        f"The {result['num_ended_by_log']:,} of them that could be read",
        f"{done['kill']} kills, {done['unload']} forced unloads"
        f" and {done['file'] + done['patch'] + done['signal']} changes of options",
        f"server {_interval(result['server_memory_mib_per_hour'], 1)} MiB an hour, the worker that"
        f" is left alone {result['steady_memory_mib_per_hour'][0]:.1f}, the embedding worker"
        f" {_interval(result['embed_memory_mib_per_hour'], 1)}",
        f"took {_interval(result['rough_memory_by_birth_mib_per_hour'], 0)} MiB an hour more",
        f"over the {result['rough_num_generations_compared']} of {result['rough_num_generations']}",
    ]

    assert result["num_in_flight_at_end"] == 0
    assert result["num_ended_by_clients"] == result["num_started"]
    assert result["num_ended_by_metrics"] == result["num_ended_by_log"]
    assert [key for key, verdict in result["verdicts"].items() if verdict != "met"] == [
        "rough_generations_are_alike"
    ]
    assert [phrase for phrase in told if phrase not in _section("Soak")] == []


def test_what_is_told_of_the_tuner_was_measured() -> None:
    result = _read("tuner")

    assert (RESULTS / "tuner.md").read_text().strip() in PAGE
    assert f"The whole run took {result['minutes']:g} minutes" in _section("The tuner")
    assert set(result["verdicts"].values()) == {"met"}


def test_what_is_told_of_the_lessons_was_measured() -> None:
    result = _read("lesson_pack")
    told = [
        f"{result['num_right']} of {result['num_lessons']} right",
        f"{result['num_exercises']} of {result['num_exercises_wanted']} exercises",
        f"{result['num_gaps']} of them made of a sentence with a gap",
        f"{result['num_attempts_more']} pieces drawn again",
        f"median {result['median_s']:g} s a lesson",
    ]

    assert [phrase for phrase in told if phrase not in ROWS["lesson_pack"]] == []


@pytest.mark.parametrize("name", ["cluster", "serve_front"])
def test_the_tables_of_ray_are_what_was_measured(name: str) -> None:
    page = (ROOT / "docs/cluster.md").read_text()

    assert (RESULTS / f"{name}.md").read_text().strip() in page
    assert _kind(_read(name)["machine"]) in page


def test_what_is_told_of_serve_at_rest_was_measured() -> None:
    share = _read("serve_front")["serve_idle_share_of_a_core"]
    page = " ".join((ROOT / "docs/cluster.md").read_text().split())

    assert f"while nobody asks ({share:g} of a core)" in page


def test_no_figure_is_said_to_be_of_a_gpu() -> None:
    pages = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "benchmarks/README.md"]
    lines = [line for page in pages for line in page.read_text().splitlines()]
    machines = [str(_read(path.stem)["machine"]) for path in RESULTS.glob("*.json")]

    # Of a T4 there is what its maker says of it, in the table of `muai --plan`.
    assert [line for line in lines if re.search(r"\bT4\b", line) and "| `t4` |" not in line] == []
    assert len(machines) > 20
    assert {_kind(machine) for machine in machines} == {"Intel Xeon", "AMD EPYC"}

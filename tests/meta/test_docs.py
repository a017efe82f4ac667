"""What the documentation says exists, and what exists is in the documentation."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Counter, Gauge, Histogram

from mm_orch.api.errors import status_of
from mm_orch.core.errors import MuAIError
from mm_orch.monitoring.alerts.alert import ALERT_TYPES
from mm_orch.monitoring.series import Series
from tests.deploy_files import read_rules
from tests.generated import run_check
from tests.unit.api.described import read_description

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CODE_OF_CONDUCT.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())

    inside = [link for link in links if "://" not in link]
    assert [link for link in inside if not (page.parent / link).exists()] == []


def test_every_test_that_the_table_of_faults_names_is_there() -> None:
    page = ROOT / "docs/fault-matrix.md"
    named = re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", page.read_text())

    assert len(named) > 20
    gone = [name for name, path in named if f"def {name}(" not in (page.parent / path).read_text()]
    assert gone == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    unread = [PAGES[0]]
    while unread:
        page = unread.pop()
        reached.add(page)
        linked = {page.parent / link for link in re.findall(r"\]\(([^)#:]+\.md)", page.read_text())}
        unread += {one.resolve() for one in linked} & set(PAGES) - reached

    assert [page.name for page in PAGES if page not in reached] == []


def test_every_alert_of_the_rules_is_in_the_handbook_and_no_other() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    alerts = {rule["alert"] for rule in read_rules() if "alert" in rule}

    assert len(alerts) > 15
    assert set(re.findall(r"^### (\w+)$", page, re.MULTILINE)) == alerts


def test_every_alert_of_the_server_is_in_the_handbook() -> None:
    page = (ROOT / "docs/operations.md").read_text()

    assert [kind for kind in ALERT_TYPES if f"| `{kind}` |" not in page] == []


def test_every_error_code_is_described_and_no_other() -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text()
    table = page.partition("## By error code")[2]
    codes = {error.code for error in _all_errors()}

    assert len(codes) > 30
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == codes


def test_every_error_code_has_its_status_on_the_page_of_http_and_no_other() -> None:
    page = (ROOT / "docs/http.md").read_text()
    table = page.partition("\n## Errors\n")[2].partition("\n## ")[0]
    told = {
        (code, status)
        for status, codes in re.findall(r"^\| (\w+) \| (.+?) \|", table, re.MULTILINE)
        for code in re.findall(r"`(\w+)`", codes)
    }
    # Without running what makes one: each wants other things to be told.
    statuses = {(one.code, str(status_of(one.__new__(one)))) for one in _all_errors()}
    local = {code for code, status in told if status == "none"}

    assert 0 < len(local) < 10
    assert {code for code, _ in told} == {code for code, _ in statuses}
    assert {(code, status) for code, status in told if code not in local} <= statuses


def _all_errors() -> list[type[MuAIError]]:
    """Return every error of the package; of its modules only those with errors are imported."""
    for path in sorted((ROOT / "mm_orch").rglob("*.py")):
        if re.search(r"^class \w+\(\w+Error\):$", path.read_text(), re.MULTILINE):
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    return [MuAIError, *_below(MuAIError)]


def _below(error: type[MuAIError]) -> list[type[MuAIError]]:
    near = [one for one in error.__subclasses__() if one.__module__.startswith("mm_orch.")]
    return [one for inner in near for one in (inner, *_below(inner))]


def test_the_table_of_layers_is_the_import_contract() -> None:
    checked = run_check("scripts/generate_layer_table.py")

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_option_of_the_command_line_is_described() -> None:
    command = [sys.executable, "-m", "mm_orch.main", "--help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    page = (ROOT / "docs/command-line.md").read_text()

    options = set(re.findall(r"--[a-z][a-z-]+", shown))
    assert len(options) > 15
    assert {option for option in options if option not in page} == set()


def test_every_module_of_optimization_has_a_layer() -> None:
    # The contract is exhaustive over packages, and this one stands in several layers.
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    [layers] = [one["layers"] for one in contracts["contracts"] if one["type"] == "layers"]
    listed = {name for layer in layers for name in layer.split(" | ")}
    found = [
        path.stem for path in (ROOT / "mm_orch/optimization").iterdir() if "__" not in path.name
    ]

    assert len(found) > 20
    assert [name for name in found if f"optimization.{name}" not in listed] == []


def test_the_meanings_of_series_are_their_help_texts() -> None:
    checked = run_check("scripts/generate_metrics_table.py")

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_command_of_a_conversation_is_described() -> None:
    commands = re.findall(r'"(/[a-z]+)"', (ROOT / "mm_orch/cli/chat_commands.py").read_text())
    page = (ROOT / "docs/command-line.md").read_text()

    assert len(commands) > 5
    assert [one for one in commands if not re.search(rf"^\| `{one}\b", page, re.MULTILINE)] == []


async def test_every_path_is_described() -> None:
    description = await read_description()
    page = (ROOT / "docs/http.md").read_text()

    assert {path for path in description["paths"] if path not in page} == set()


def test_every_series_is_described() -> None:
    page = (ROOT / "docs/metrics.md").read_text()
    collectors = [c for c in vars(Series()).values() if isinstance(c, Counter | Gauge | Histogram)]

    assert len(collectors) > 20
    for collector in collectors:
        [family] = collector.describe()
        name = f"{family.name}_total" if isinstance(collector, Counter) else family.name
        assert f"| `{name}` | {family.type} |" in page


MEASURED = [
    "cold_start",
    "conversations",
    "decode_ceiling",
    "headline",
    "health_latency",
    "monitoring_cost",
    "outside_tool",
    "overhead",
    "peers",
    "quick_commands",
    "step_times",
    "stream_gap",
]


# Of README.md: what each of its figures is in the results.
QUOTED = [
    ("headline", ("short_ours_batched", "over_naive")),
    ("headline", ("conversations_ours_batched_cached", "over_naive")),
    ("headline", ("short_transformers_continuous", "over_naive")),
    ("headline", ("conversations_transformers_continuous", "over_naive")),
    ("headline", ("arrivals_naive_p95_s",)),
    ("headline", ("arrivals_ours_batched_p95_s",)),
    ("peers", ("ratio_openvino_int8_vllm_1", 0)),
    ("peers", ("ratio_openvino_int8_vllm_8", 0)),
    ("peers", ("ratio_openvino_int8_vllm_32", 0)),
    ("peers", ("ratio_openvino_bf16_vllm_1", 0)),
    ("peers", ("ratio_openvino_bf16_vllm_8", 0)),
    ("peers", ("ratio_openvino_bf16_vllm_32", 0)),
    ("peers", ("ratio_openvino_int8_llama_cpp_q4_0_1", 0)),
    ("peers", ("ratio_openvino_int8_llama_cpp_q4_0_8", 0)),
    ("peers", ("ratio_openvino_int8_llama_cpp_q4_0_32", 0)),
    *(("overhead", ("ratio_8_cpu_s_per_request", number)) for number in range(3)),
    *(("overhead", ("ratio_32_cpu_s_per_request", number)) for number in range(3)),
    ("overhead", ("litellm_over_ours_1_whole_p50", 0)),
    ("overhead", ("litellm_over_ours_16_whole_p50", 0)),
    ("peers", ("ours_ttft_first_s",)),
    ("peers", ("vllm_ttft_first_s",)),
    ("headline", ("arrival_rate_per_s",)),
    ("conversations", ("hit_rate",)),
]


def test_the_readme_shows_how_many_packages_are_installed() -> None:
    lock = (ROOT / "requirements.lock").read_text()

    assert f"installing {lock.count('==')} packages of" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(("name", "keys"), QUOTED, ids=str)
def test_the_readmes_figures_are_those_that_were_measured(
    name: str, keys: tuple[str | int, ...]
) -> None:
    figure: Any = json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())
    for key in keys:
        figure = figure[key]
    table = (ROOT / "README.md").read_text().partition("## Measured")[2].partition("\n## ")[0]

    assert re.search(rf"(?<![\d.]){re.escape(str(figure))}(?![\d])", table), figure


@pytest.mark.parametrize("name", MEASURED)
def test_the_quoted_figures_are_those_that_were_measured(name: str) -> None:
    results = json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())
    page = (ROOT / "docs/benchmarks.md").read_text()
    [row] = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
    tables = sorted((ROOT / "benchmarks/results").glob(f"{name}*.md"))
    for table in tables:
        assert table.read_text().strip() in page, table.name
        row += table.read_text()

    quoted = {
        key: value if isinstance(value, list) else [value]
        for key, value in results.items()
        if re.search("median|ratio|rate|share|p[59]|_tokens_per_s", key)
        and not re.search("^bar|cpu", key)
    }
    assert len(quoted) >= 2
    assert [key for key, values in quoted.items() if any(f"{v:g}" not in row for v in values)] == []


def test_the_figures_of_routing_are_those_that_were_measured() -> None:
    results = json.loads((ROOT / "benchmarks/results/routing.json").read_text())
    page = (ROOT / "docs/routing.md").read_text()
    rates = [
        rate
        for router in ("rules", "learned")
        for rate in (
            results[f"{router}_accuracy_rate"],
            *results[f"{router}_by_language"].values(),
        )
    ]
    quoted = [f"{share:g} (95%: {low:g} to {high:g})" for share, low, high in rates]
    quoted += [f"{value:g}" for key, value in results.items() if re.search("_ms|^num|^train", key)]
    tables = sorted((ROOT / "benchmarks/results").glob("routing*.md"))
    quoted += [table.read_text().strip() for table in tables]

    assert len(tables) == 3
    assert [one for one in quoted if one not in page] == []


def test_the_figures_of_retrieval_are_those_that_were_measured() -> None:
    results = json.loads((ROOT / "benchmarks/results/rag.json").read_text())
    page = (ROOT / "docs/rag.md").read_text()
    rows = [
        [
            _show(kinds["all"]),
            *(kinds[kind] for kind in ("plain", "identifier", "paraphrase", "multi")),
        ]
        for kinds in results["recall_at_5"].values()
    ]
    rows += [
        [
            _show(kinds["unanswerable"]),
            *(kinds[kind][0] for kind in ("outside", "entity", "fact")),
            _show(kinds["answerable"]),
        ]
        for kinds in (results["declined"], results["declined_by_words_alone"])
    ]
    quoted = [
        " | ".join(f"{cell:g}" if isinstance(cell, float) else cell for cell in row) for row in rows
    ]
    quoted += [_show(results[name]) for name in ("hybrid_over_vectors", "hybrid_over_words")]
    quoted += [f"{results[name]:,}" for name in ("num_questions", "num_chunks")]

    assert [one for one in quoted if one not in page] == []


def _show(estimate: list[float]) -> str:
    middle, low, high = estimate
    return f"{middle:g} ({low:g} to {high:g})"


def test_the_figures_of_confidence_are_those_that_were_measured() -> None:
    page = (ROOT / "docs/confidence.md").read_text()
    tables = sorted((ROOT / "benchmarks/results").glob("cascade*.md"))

    assert len(tables) >= 3
    assert [table.name for table in tables if table.read_text().strip() not in page] == []


def test_the_table_of_detectors_is_what_was_measured() -> None:
    page = (ROOT / "docs/benchmarks.md").read_text()
    measured = (ROOT / "benchmarks/results/anomaly.md").read_text().splitlines()

    totals = [row for row in measured if "| all |" in row]
    assert len(totals) > 10
    assert "\n".join([*measured[:2], *totals]) in page

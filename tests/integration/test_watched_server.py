"""A real server under load, watched by a real Prometheus: every series, every panel, every rule."""

from __future__ import annotations

import random
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests import odd_engines as odd
from tests.available import require_program
from tests.deploy_files import RULES, dashboard_expressions, read_rules
from tests.metrics_contract import PROMISED, PromisedSeries
from tests.processes import ROOT, ServerProcess, start_server
from tests.prometheus import JOB, Prometheus, has_data, run_prometheus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mm_orch.models.stored import StoredModel

pytestmark = pytest.mark.model

MODEL = "smollm2-135m"
PREFERRED, SPARE = "odd", "spare"
NUM_CLIENTS = 8
MAX_BATCH_SIZE = 4
"""Fewer than the clients, so that some wait."""

# Ids of ordinary words of the model.
FIRST_WORD, LAST_WORD = 1000, 40_000
NUM_SHARED_TOKENS = 64
PAST_S = 300
"""Longer than the load."""

# promtool minds the units in these; the contract fixes their names.
FIXED_NAMES = {"auto_tuning_batch_timeout_ms", "auto_tuning_cache_size_mb"}

# The machine has no GPUs: the server finds this library in the place of NVIDIA's.
INJECTED_NVML = """\
import sys
from tests.fake_nvml import GIB, FakeNvml
sys.modules[__name__] = FakeNvml(of_others_bytes=10 * GIB)
"""


@dataclass(frozen=True, slots=True)
class Questions:
    """Requests of one kind, of which every one is answered in full.

    Attributes:
        num_requests: all with the same beginning.
        num_own_tokens: of each prompt, that no other one has.
        max_tokens: of each answer, which has no fewer either.
    """

    num_requests: int
    num_own_tokens: int = 500
    max_tokens: int = 300

    @property
    def num_prompt_tokens(self) -> int:
        """Of each prompt."""
        return NUM_SHARED_TOKENS + self.num_own_tokens


@dataclass(frozen=True, slots=True)
class Watched:
    """A server that has had its load, and the Prometheus that saw it.

    Attributes:
        tokens_of_query: what the one query took that had its workflow chosen.
    """

    server: ServerProcess
    prometheus: Prometheus
    tokens_of_query: dict[str, int]


BEFORE_THE_LOSS = (
    Questions(2 * NUM_CLIENTS),
    Questions(45, num_own_tokens=6000, max_tokens=8),
)
AFTER_THE_LOSS = Questions(2 * NUM_CLIENTS)
ALL = (*BEFORE_THE_LOSS, AFTER_THE_LOSS)
NUM_SENT = sum(one.num_requests for one in ALL)


@pytest.fixture(scope="module")
def watched(
    builtin_model: StoredModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Watched]:
    directory = tmp_path_factory.mktemp("watched")
    plug_ins = make_folder(directory / "plug-ins")
    switch = odd.install(plug_ins)
    (plug_ins / "pynvml.py").write_text(INJECTED_NVML)
    server = start_server(
        make_folder(directory / "server"),
        config={
            "models": {
                MODEL: {
                    "source": f"path:{builtin_model.directory}",
                    "engines": [PREFERRED, SPARE],
                    "replicas": "1-2",
                }
            },
            # What the tuner remembers is the test's alone.
            "system": {"data_dir": str(directory / "data")},
            "optimization": {
                "batcher": {"max_batch_size": MAX_BATCH_SIZE},
                # Room for fewer tokens than are asked: what is kept for reuse has to be given up.
                "cache": {"max_memory_mb": 1},
                # It looks on, as the tuner does.
                "autoscaler": {"target_wait_s": 1e6},
                # It looks on; what the load is made for stays as it is.
                "tuner": {
                    "enabled": True,
                    "tuning_interval_seconds": 1,
                    "enable_batch_size_tuning": False,
                    "enable_cache_size_tuning": False,
                },
            },
            "monitoring": {
                "server": {"preload_models": [MODEL]},
                "collection_interval_seconds": 1,
                # Any memory in use is too much: an alert begins.
                "anomaly": {"memory_threshold_percent": 0.1, "evaluation_interval_seconds": 1},
            },
        },
        environment={
            **switch.environment,
            "PYTHONPATH": f"{plug_ins}:{ROOT}",
        },
    )
    target = urlsplit(server.metrics_url).netloc
    folder = make_folder(directory / "prometheus")
    try:
        with run_prometheus(folder, target, rule_files=[RULES]) as prometheus:
            # The zeros are scraped before anything happens, else nothing increases.
            prometheus.wait_for(f'min(engine_up{{model="{MODEL}",engine="{PREFERRED}"}})', 1)
            yield Watched(server, prometheus, load(server, switch, prometheus))
    finally:
        server.stop()


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


def load(server: ServerProcess, switch: odd.Switch, prometheus: Prometheus) -> dict[str, int]:
    """Ask much at a time, then lose the engine, then ask again; wait until all of it is scraped.

    Returns:
        the tokens of a query to a workflow beside that.
    """
    body = {"query": "What is machine learning?", "preferences": {"max_tokens": 8}}
    query = server.request("POST", "/api/query", body)
    assert query.status == 200, query.body
    for questions in BEFORE_THE_LOSS:
        ask_together(server, questions)
    switch.order("die")
    ask_together(server, AFTER_THE_LOSS)
    refused = server.request("POST", "/v1/completions", {"model": "nobody", "prompt": "x"})
    assert refused.status == 404
    server.request("POST", "/admin/drain")
    refused = server.request("POST", "/v1/completions", {"prompt": "x"})
    assert refused.status == 503
    server.request("POST", "/admin/resume")
    prometheus.wait_for('sum(inference_requests_total{status="success"})', NUM_SENT + 1)
    # A rate wants two scrapes of the last state.
    last_scrape = f'max(timestamp(up{{job="{JOB}"}}))'
    [seen_s] = prometheus.values(last_scrape)
    prometheus.wait_until(last_scrape, lambda found: found[0] > seen_s + 1)
    return dict(query.json["metadata"]["usage"])


def ask_together(server: ServerProcess, questions: Questions) -> None:
    """Send as many requests at a time as there are clients, until all are answered."""
    drawn = random.Random(questions.num_own_tokens)  # noqa: S311 - a repeatable load
    beginning = draw_words(drawn, NUM_SHARED_TOKENS)
    prompts = [
        [*beginning, *draw_words(drawn, questions.num_own_tokens)]
        for _ in range(questions.num_requests)
    ]
    with ThreadPoolExecutor(NUM_CLIENTS) as clients:
        asked = [clients.submit(ask, server, prompt, questions.max_tokens) for prompt in prompts]
        assert [one.result() for one in asked] == [200] * questions.num_requests


def draw_words(drawn: random.Random, num_words: int) -> list[int]:
    return [drawn.randrange(FIRST_WORD, LAST_WORD) for _ in range(num_words)]


def ask(server: ServerProcess, prompt: list[int], max_tokens: int) -> int:
    body = {"prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True}
    return server.request("POST", "/v1/completions", body).status


@pytest.mark.parametrize("series", PROMISED, ids=lambda series: series.name)
def test_every_promised_series_is_scraped_with_a_plausible_value(
    watched: Watched, series: PromisedSeries
) -> None:
    found = watched.prometheus.query(scraped(series))
    assert found
    of_prometheus = {"__name__", "job", "instance", "le"}
    assert {name for one in found for name in one.labels} - of_prometheus == set(series.labels)
    [value] = watched.prometheus.values(summary(series))
    assert series.low <= value <= series.high


def scraped(series: PromisedSeries) -> str:
    name = f"{series.name}_count" if series.kind == "histogram" else series.name
    return f'{name}{{job="{JOB}"}}'


def summary(series: PromisedSeries) -> str:
    """One number that says what a series amounted to."""
    match series.kind:
        case "counter":
            return f"sum({series.name})"
        case "gauge":
            return f"max(max_over_time({series.name}[{PAST_S}s]))"
        case "histogram":
            return f"sum({series.name}_sum) / sum({series.name}_count)"


@pytest.mark.parametrize(
    ("expression", "amount", "of_query"),
    [
        ('sum(inference_requests_total{status="success"})', NUM_SENT + 1, ""),
        # Of the model that nobody has, and while the server drained.
        ('sum(inference_requests_total{status="rejected"})', 2, ""),
        ('sum(inference_requests_total{status!~"success|rejected"})', 0, ""),
        ("sum(inference_latency_seconds_count)", NUM_SENT + 1, ""),
        ("sum(time_to_first_token_seconds_count)", NUM_SENT + 1, ""),
        (
            "sum(prompt_tokens_total)",
            sum(one.num_requests * one.num_prompt_tokens for one in ALL),
            "prompt_tokens",
        ),
        (
            "sum(generation_tokens_total)",
            sum(one.num_requests * one.max_tokens for one in ALL),
            "completion_tokens",
        ),
        ('sum(http_requests_total{route="/v1/completions"})', NUM_SENT + 2, ""),
        ('sum(workflow_runs_total{workflow="chat_generate",status="success"})', 1, ""),
        ('sum(routing_decisions_total{workflow="chat_generate"})', 1, ""),
        ("sum(workflow_runs_total)", 1, ""),
    ],
)
def test_what_was_sent_is_counted_to_the_last_token_though_an_engine_was_lost(
    watched: Watched, expression: str, amount: int, of_query: str
) -> None:
    expected = amount + (watched.tokens_of_query[of_query] if of_query else 0)

    assert watched.prometheus.values(expression) == [expected]


@pytest.mark.parametrize(("name", "expression"), list(dashboard_expressions()))
def test_every_panel_has_something_to_show(watched: Watched, name: str, expression: str) -> None:
    series = watched.prometheus.query_range(expression, past_s=PAST_S)
    assert has_data(series), f"{name}: {expression}"


@pytest.mark.parametrize("name", [rule["record"] for rule in read_rules() if "record" in rule])
def test_every_recording_rule_records_something(watched: Watched, name: str) -> None:
    assert has_data(watched.prometheus.query_range(f'{name}{{model="{MODEL}"}}', past_s=PAST_S))


def test_a_lost_worker_is_an_alert_and_other_load_is_none(watched: Watched) -> None:
    watched.prometheus.wait_for('ALERTS{alertname="RequestFailovers",alertstate="firing"}', 1)

    # The others wait for their trouble to last.
    assert watched.prometheus.firing_alerts() == {"RequestFailovers"}


def test_promtool_minds_only_the_names_that_are_fixed(watched: Watched) -> None:
    require_program("promtool")
    page = watched.server.request("GET", "/metrics").body.decode()
    result = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False
    )
    problems = [line for line in result.stderr.splitlines() if line.split()[0] not in FIXED_NAMES]
    assert problems == []

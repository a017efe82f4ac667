"""What a real server chooses where calls leave it open, and what it tells of that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.core.trace import parse_trace
from tests.otlp import Collector
from tests.processes import run_cli, start_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mm_orch.models.stored import StoredModel
    from tests.otlp import Span
    from tests.processes import Reply, ServerProcess

pytestmark = pytest.mark.model

MODEL, SHORT_SIGHTED, FAR = "smollm2-135m", "short-sighted", "far-7b"
PLAIN = "What is machine learning?"
SHORT = {"max_tokens": 8, "temperature": 0}
# Nobody listens there.
NOWHERE = "openai:http://127.0.0.1:9#far"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("routing")


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector("http") as collector:
        yield collector


@pytest.fixture(scope="module")
def serving(
    own_data: Mapping[str, str], place: Path, collector: Collector, builtin_model: StoredModel
) -> Iterator[ServerProcess]:
    """The real model; the same with a narrow context; and one that cannot be reached."""
    config = {
        "models": {
            MODEL: {},
            SHORT_SIGHTED: {
                "source": f"path:{builtin_model.directory}",
                "engines": ["echo"],
                "context_length": 64,
            },
            FAR: {"source": NOWHERE},
        },
        "monitoring": {
            "server": {"preload_models": [MODEL]},
            "tracing": {"endpoint": collector.endpoint},
        },
    }
    server = start_server(place, config=config, environment=own_data)
    yield server
    server.stop()


def post(server: ServerProcess, path: str, **body: object) -> Reply:
    reply = server.request("POST", path, body)
    assert reply.status == 200, reply.body
    return reply


def test_a_plain_question_is_answered_by_the_model_itself_and_says_why(
    serving: ServerProcess,
) -> None:
    reply = post(serving, "/api/query", query=PLAIN, preferences=SHORT)

    answer = reply.json
    assert (answer["workflow_type"], answer["metadata"]["model"]) == ("chat_generate", MODEL)
    assert answer["result"]
    choice = answer["metadata"]["routing"]["workflow"]
    # By learned weights, where there is more than one that can answer.
    is_choice = len(choice["alternatives"]) > 1
    assert choice["by"] == ("learned" if is_choice else "default")
    assert choice["workflow"] == "chat_generate"
    assert choice["confidence"] > 0.5
    assert choice["reason"]
    assert reply.headers["x-muai-route"].startswith("workflow=chat_generate; by=")


def read_events(reply: Reply) -> list[tuple[str, Any]]:
    parts = [part.split("\n") for part in reply.body.decode().split("\n\n")[:-1]]
    return [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for name, data in parts
    ]


def test_a_streamed_query_tells_its_choices_first(serving: ServerProcess) -> None:
    reply = post(
        serving, "/api/query", query=PLAIN, stream=True, preferences={**SHORT, "model": "auto"}
    )

    events = read_events(reply)
    name, route = events[0]
    assert (name, events[-1][0]) == ("route", "result")
    assert route == events[-1][1]["metadata"]["routing"]
    assert route["workflow"]["workflow"] == "chat_generate"
    assert route["model"]["model"] == events[-1][1]["metadata"]["model"]


def test_the_model_auto_is_one_that_fits_and_can_answer(serving: ServerProcess) -> None:
    messages = [{"role": "user", "content": "Tell me of the sea and of ships. " * 10}]

    reply = post(serving, "/v1/chat/completions", model="auto", messages=messages, **SHORT)

    choice = reply.json["muai"]["routing"]["model"]
    assert reply.json["model"] == choice["model"] == MODEL
    assert choice["by"] == "only"
    reason_by_name = {one["name"]: one["reason"] for one in choice["ruled_out"]}
    assert reason_by_name.keys() == {SHORT_SIGHTED, FAR}
    assert "do not fit into its context of 64" in reason_by_name[SHORT_SIGHTED]
    assert reason_by_name[FAR].startswith("it cannot be reached")
    assert reply.headers["x-muai-route"].startswith(f"model={MODEL}; by=only; reason=")


def test_a_model_that_is_drained_gives_way(serving: ServerProcess) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}], **SHORT}
    serving.request("POST", f"/api/models/{MODEL}/drain")
    try:
        drained = post(serving, "/v1/chat/completions", **body).json
    finally:
        serving.request("POST", f"/api/models/{MODEL}/resume")
    resumed = post(serving, "/v1/chat/completions", **body).json

    assert drained["model"] == SHORT_SIGHTED
    told = drained["muai"]["routing"]["model"]["ruled_out"]
    assert {"name": MODEL, "reason": "it is being drained"} in told
    ranked = [one["model"] for one in resumed["muai"]["routing"]["model"]["alternatives"]]
    assert sorted(ranked) == [SHORT_SIGHTED, MODEL]


def test_a_stream_of_the_model_auto_says_so_in_its_header_and_its_end(
    serving: ServerProcess,
) -> None:
    messages = [{"role": "user", "content": PLAIN}]

    reply = post(
        serving, "/v1/chat/completions", model="auto", messages=messages, stream=True, **SHORT
    )

    *chunks, done = [line for line in reply.body.decode().split("\n\n") if line]
    assert done == "data: [DONE]"
    last = json.loads(chunks[-1].removeprefix("data: "))
    assert last["muai"]["routing"]["model"]["model"] == last["model"]
    assert f"model={last['model']}; " in reply.headers["x-muai-route"]


def spans_of(collector: Collector, reply: Reply) -> list[Span]:
    own = parse_trace(reply.headers["traceparent"])
    assert own is not None

    def of_trace(spans: list[Span]) -> list[Span]:
        return [span for span in spans if span.trace_id == own.trace_hex]

    return of_trace(
        collector.wait_for(lambda spans: any(one.name == "request" for one in of_trace(spans)))
    )


def test_choices_stand_in_the_requests_trace_without_a_word_of_the_query(
    serving: ServerProcess, collector: Collector
) -> None:
    query = post(serving, "/api/query", query=PLAIN, preferences={**SHORT, "model": "auto"})
    messages = [{"role": "user", "content": PLAIN}]
    chat = post(serving, "/v1/chat/completions", model="auto", messages=messages, **SHORT)

    of_query, of_chat = spans_of(collector, query), spans_of(collector, chat)

    [root] = [span for span in of_query if span.name == "request"]
    [route] = [span for span in of_query if span.name == "workflow.route"]
    told = query.json["metadata"]["routing"]
    assert route.parent_id == root.span_id
    assert root.begin_ns <= route.begin_ns <= route.end_ns <= root.end_ns
    for kind in ("workflow", "model"):
        attributes = route.attributes
        assert attributes[f"muai.route.{kind}.by"] == told[kind]["by"]
        assert attributes[f"muai.route.{kind}.reason"] == told[kind]["reason"]
        names = [one.partition(": ")[0] for one in attributes[f"muai.route.{kind}.alternatives"]]
        assert names == [one[kind] for one in told[kind]["alternatives"]]
    assert route.attributes["muai.workflow.name"] == "chat_generate"
    assert route.attributes["muai.model"] == told["model"]["model"]
    [of_model] = [span for span in of_chat if span.name == "route"]
    choice = chat.json["muai"]["routing"]["model"]
    assert of_model.attributes["muai.route.model.reason"] == choice["reason"]
    assert "machine learning" not in str([*of_query, *of_chat])


def test_the_command_line_has_both_chosen_and_shows_it(
    serving: ServerProcess, place: Path, own_data: Mapping[str, str]
) -> None:
    port = int(serving.url.rpartition(":")[2])
    config = place / "client.yaml"
    config.write_text(json.dumps({"monitoring": {"server": {"port": port}}}))
    ask = ["--config", str(config), "--max-tokens", "5", "--json", PLAIN]

    result = run_cli(
        "--workflow", "auto", "--model", "auto", *ask, directory=place, environment=own_data
    )

    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["answered_by"] == serving.url
    routing = answer["routing"]
    assert routing["workflow"]["workflow"] == "chat_generate"
    assert routing["model"]["model"] == answer["model"]


def test_what_was_chosen_is_counted(serving: ServerProcess) -> None:
    post(serving, "/api/query", query=PLAIN, preferences=SHORT)

    page = serving.request("GET", "/metrics").body.decode()

    lines = [line for line in page.splitlines() if "chat_generate" in line]
    counts = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}
    decided = [
        counts[f'routing_decisions_total{{by="{by}",workflow="chat_generate"}}']
        for by in ("learned", "rules", "default")
    ]
    assert sum(decided) >= 1
    assert counts['workflow_runs_total{status="success",workflow="chat_generate"}'] >= 1
    assert counts['workflow_duration_seconds_count{workflow="chat_generate"}'] >= 1


def test_the_command_line_alone_has_both_chosen_too(
    tmp_path: Path, own_data: Mapping[str, str]
) -> None:
    config = tmp_path / "alone.yaml"
    config.write_text(json.dumps({"models": {MODEL: {"engines": ["echo"]}}}))

    result = run_cli(
        *("--workflow", "auto", "--model", "auto", "--config", str(config)),
        *("--max-tokens", "5", "--json", PLAIN),
        directory=tmp_path,
        environment=own_data,
    )

    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["routing"]["workflow"]["workflow"] == "chat_generate"
    assert answer["routing"]["model"]["by"] == "only"

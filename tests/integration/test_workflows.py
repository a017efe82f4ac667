"""Conversations with the real model in a real server: window, owners, a kill, the command line."""

from __future__ import annotations

import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from openai import NotFoundError, OpenAI

from mm_orch.core.generation import Message
from mm_orch.core.trace import parse_trace
from mm_orch.models.chat_template import ChatTemplate, encode_chat
from mm_orch.models.text import TextCodec
from tests.otlp import Collector
from tests.processes import run_cli, share_models, start_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mm_orch.models.stored import StoredModel
    from tests.otlp import Span
    from tests.processes import Reply, ServerProcess

pytestmark = pytest.mark.model

WINDOW_TOKENS = 160
NAME = "workflow/chat_generate"
CONFIG: dict[str, Any] = {
    "workflows": {"window_tokens": WINDOW_TOKENS},
    "api": {
        "enable_auth": True,
        "api_keys": [{"name": "ada", "key": "sk-ada"}, {"name": "bob", "key": "sk-bob"}],
    },
}
SHORT = {"max_tokens": 8, "temperature": 0}
FACTS = ["I live in Paris.", "My cat is called Tom.", "I like green tea.", "It rains today."]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workflows")


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector("grpc") as collector:
        yield collector


@pytest.fixture(scope="module")
def serving(own_data: dict[str, str], place: Path, collector: Collector) -> Iterator[ServerProcess]:
    config = {**CONFIG, "monitoring": {"tracing": {"endpoint": collector.endpoint}}}
    server = start_server(place, config=config, environment=own_data)
    yield server
    server.stop()


def post(server: ServerProcess, path: str, key: str = "sk-ada", **body: object) -> Reply:
    return server.request("POST", path, body, {"X-API-Key": key})


def say(server: ServerProcess, message: str, session_id: str | None = None) -> dict[str, Any]:
    reply = post(server, "/api/chat", message=message, session_id=session_id, preferences=SHORT)
    assert reply.status == 200, reply.body
    return dict(reply.json)


def talk(server: ServerProcess, messages: Sequence[str]) -> str:
    """Say these in a session of their own; return its name."""
    session_id = None
    for number, message in enumerate(messages, start=1):
        answer = say(server, message, session_id)
        session_id = answer["session_id"]
        assert (answer["turn_count"], answer["response"] != "") == (number, True)
    assert session_id is not None
    return session_id


def read_session(server: ServerProcess, session_id: str) -> list[dict[str, str]]:
    reply = server.request("GET", f"/api/sessions/{session_id}", headers={"X-API-Key": "sk-ada"})
    return list(reply.json["messages"])


def messages_of(server: ServerProcess, session_id: str) -> list[dict[str, str]]:
    messages = read_session(server, session_id)
    return [{"role": one["role"], "content": one["content"]} for one in messages]


def count_tokens(model: StoredModel, messages: Sequence[dict[str, str]]) -> int:
    directory = Path(model.directory)
    template = ChatTemplate.find_in_directory(directory)
    assert template is not None
    turns = [Message(**one) for one in messages]
    return len(encode_chat(TextCodec.from_directory(directory), template, turns))


def test_the_model_is_shown_as_many_whole_turns_as_its_own_tokeniser_says_fit(
    serving: ServerProcess, builtin_model: StoredModel
) -> None:
    session_id = talk(serving, FACTS * 2)
    told = messages_of(serving, session_id)
    question = {"role": "user", "content": "Where do I live?"}

    reply = post(
        serving, "/api/query", query=question["content"], session_id=session_id, preferences=SHORT
    )

    num_shown = reply.json["metadata"]["usage"]["prompt_tokens"]
    sizes = [
        count_tokens(builtin_model, [*told[first:], question])
        for first in range(0, len(told) + 1, 2)
    ]
    # Some turns are left out, some are shown, and one more would have been too many.
    assert num_shown == max(size for size in sizes if size <= WINDOW_TOKENS)
    assert sizes[0] > WINDOW_TOKENS > num_shown > sizes[-1]


def test_a_stored_conversation_is_what_the_same_messages_are_over_openais_path(
    serving: ServerProcess,
) -> None:
    session_id = talk(serving, FACTS[:2])
    asked = "What is my cat called?"
    messages = [*messages_of(serving, session_id), {"role": "user", "content": asked}]

    query = post(serving, "/api/query", query=asked, session_id=session_id, preferences=SHORT).json
    whole = post(serving, "/v1/chat/completions", model=NAME, messages=messages, **SHORT).json
    plain = post(serving, "/v1/chat/completions", messages=messages, **SHORT).json

    usages = [one["usage"] for one in (query["metadata"], whole, plain)]
    assert len({usage["prompt_tokens"] for usage in usages}) == 1
    assert query["metadata"]["model"] == whole["model"] == plain["model"] == "smollm2-135m"
    assert whole["choices"][0]["finish_reason"] == query["metadata"]["finish_reason"] == "length"
    # What went before was still there.
    assert all(usage["prompt_tokens_details"]["cached_tokens"] > 0 for usage in usages)


def test_each_step_is_a_span_of_the_requests_trace_and_runs_have_a_window(
    serving: ServerProcess, collector: Collector
) -> None:
    session_id = talk(serving, FACTS[:1])
    reply = post(serving, "/api/query", query="Hello", session_id=session_id, preferences=SHORT)
    own = parse_trace(reply.headers["traceparent"])
    assert own is not None

    def of_trace(spans: list[Span]) -> list[Span]:
        return [span for span in spans if span.trace_id == own.trace_hex]

    spans = of_trace(
        collector.wait_for(lambda all_: any(one.name == "request" for one in of_trace(all_)))
    )

    name_by_id = {span.span_id: span.name for span in spans}
    tree = {span.name: name_by_id.get(span.parent_id, "") for span in spans}
    steps = [f"workflow.step {name}" for name in ("window", "answer", "keep")]
    assert tree == {
        "request": "",
        **dict.fromkeys([*steps, "workflow.route"], "request"),
        **dict.fromkeys(["route", "queue", "inference"], steps[1]),
        **dict.fromkeys(["prefill", "decode"], "inference"),
    }
    metrics = serving.request("GET", "/api/metrics", headers={"X-API-Key": "sk-ada"}).json
    [runs] = [one for one in metrics["workflows"] if one["workflow"] == "chat_generate"]
    assert (runs["num_requests"] >= 2, runs["num_failed"]) == (True, 0)
    assert runs["num_generated_tokens"] <= 8 * runs["num_requests"]


def test_openais_client_asks_a_workflow_as_a_model(serving: ServerProcess) -> None:
    messages: list[Any] = [{"role": "user", "content": "Say yes."}]
    with OpenAI(base_url=f"{serving.url}/v1", api_key="sk-ada", max_retries=0) as client:
        with client.chat.completions.create(
            model=NAME,
            messages=messages,
            stream=True,
            max_tokens=8,
            temperature=0,
            stream_options={"include_usage": True},
        ) as stream:
            chunks = list(stream)
        with pytest.raises(NotFoundError, match=r"Known: .*chat_generate"):
            client.chat.completions.create(model="workflow/rag", messages=messages)

    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 8
    assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    assert chunks[-2].choices[0].finish_reason == "length"
    assert {one.model for one in chunks} == {"smollm2-135m"}


def test_another_key_finds_no_session_and_its_own_are_counted_apart(
    serving: ServerProcess,
) -> None:
    session_id = talk(serving, FACTS[:1])

    refused = post(serving, "/api/chat", "sk-bob", message="Hi", session_id=session_id)
    listed = serving.request("GET", "/api/sessions", headers={"X-API-Key": "sk-bob"})

    assert (refused.status, refused.json["error"]["code"]) == (404, "session_not_found")
    assert listed.json == {"sessions": []}


def test_a_stream_that_its_client_leaves_stores_nothing_and_frees_its_place(
    serving: ServerProcess,
) -> None:
    session_id = talk(serving, FACTS[:1])
    body = {"query": "Tell me a long story.", "session_id": session_id, "stream": True}
    connection = serving.connect()
    connection.request("POST", "/api/query", json.dumps(body).encode(), {"X-API-Key": "sk-ada"})
    response = connection.getresponse()
    assert response.status == 200
    for line in response:
        if line.startswith(b"event: piece"):
            break
    response.close()
    connection.close()

    # Its turn in the session comes when the one before it has let go.
    assert say(serving, "Short, please.", session_id)["turn_count"] == 2
    assert len(messages_of(serving, session_id)) == 4


def test_the_command_line_asks_the_running_servers_workflow(
    serving: ServerProcess, place: Path, own_data: dict[str, str]
) -> None:
    port = serving.url.rpartition(":")[2]
    config = place / "client.yaml"
    config.write_text(json.dumps({**CONFIG, "monitoring": {"server": {"port": int(port)}}}))
    ask = ["--config", str(config), "--max-tokens", "5", "--json", "Say yes."]

    answered = run_cli("--workflow", "chat_generate", *ask, directory=place, environment=own_data)
    refused = run_cli("--workflow", "rag", *ask, directory=place, environment=own_data)

    assert answered.returncode == 0, answered.stderr
    answer = json.loads(answered.stdout)
    assert (answer["answered_by"], answer["model"]) == (serving.url, "smollm2-135m")
    assert answer["usage"]["completion_tokens"] <= 5
    assert refused.returncode == 2
    assert "No workflow is named 'rag'. Known: cascade, chat_generate, " in refused.stderr


def test_a_server_whose_sessions_cannot_be_read_says_so_and_answers_all_else(
    builtin_model: StoredModel,  # noqa: ARG001 - must be there before it is linked to
    data_directory: Path,
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "sessions.sqlite3").write_text("no database, " * 1000)
    server = start_server(
        tmp_path,
        config={"models": {"smollm2-135m": {"engines": ["echo"]}}},
        environment=share_models(data_directory, data),
    )
    try:
        chat = post(server, "/api/chat", message="Hi")
        query = post(server, "/api/query", query="Hi", preferences=SHORT)
        health = server.request("GET", "/health").json
    finally:
        server.stop()

    assert (chat.status, chat.json["error"]["code"]) == (500, "storage_failed")
    assert (query.status, query.json["status"]) == (200, "success")
    assert health["status"] == "degraded"
    [reason] = health["degradation_reasons"]
    assert "no session or document can be stored: sessions.sqlite3 cannot be used" in reason


def talk_until_cut(server: ServerProcess, has_answered: threading.Event) -> dict[str, list[str]]:
    """Go on with one session until the server is gone; return the answers' ids by session."""
    told: dict[str, list[str]] = {}
    session_id = None
    while True:
        try:
            answer = say(server, "Go on.", session_id)
        except (OSError, HTTPException):
            return told
        session_id = answer["session_id"]
        told.setdefault(session_id, []).append(answer["message_id"])
        assert answer["turn_count"] == len(told[session_id])
        has_answered.set()


def test_a_server_that_is_killed_while_it_answers_has_lost_no_turn_that_it_told_of(
    own_data: dict[str, str], tmp_path: Path
) -> None:
    config = {**CONFIG, "models": {"smollm2-135m": {"engines": ["echo"]}}}
    killed = start_server(tmp_path, config=config, environment=own_data)
    has_answered = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        talks = [pool.submit(talk_until_cut, killed, has_answered) for _ in range(4)]
        assert has_answered.wait(60)
        killed.stop(signal.SIGKILL)
        told = {key: ids for talk in talks for key, ids in talk.result().items()}

    server = start_server(tmp_path, config=config, environment=own_data)
    try:
        for session_id, ids in told.items():
            messages = read_session(server, session_id)
            assert [one["role"] for one in messages] == ["user", "assistant"] * (len(messages) // 2)
            stored = [one["message_id"] for one in messages[1::2]]
            # At most one turn was stored and not yet told of.
            assert stored[: len(ids)] == ids
            assert len(stored) <= len(ids) + 1
            assert say(server, "And?", session_id)["turn_count"] == len(stored) + 1
    finally:
        server.stop()

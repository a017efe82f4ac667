"""Answers from recorded pages by the real model: each face, streams, a client that goes, time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from openai import OpenAI

from tests.processes import run_cli, start_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.processes import Reply, ServerProcess

pytestmark = pytest.mark.model

SEARCH, SELF_ASK = "search_qa", "self_ask_search_qa"
OPENED = "When was the Golden Gate Bridge opened?"
HIGHER = "Is Mount Everest higher than K2?"
PREFERENCES = {"temperature": 0, "max_tokens": 60}
NOTICE = "The web was not searched"


@pytest.fixture(scope="module")
def serving(
    own_data: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    server = start_server(tmp_path_factory.mktemp("search"), environment=own_data)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def away(
    own_data: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server whose network is away: nobody listens on the port of discarded data."""
    search = {"provider": "searxng", "url": "http://127.0.0.1:9"}
    server = start_server(
        tmp_path_factory.mktemp("away"),
        config={"workflows": {"search": search}},
        environment=own_data,
    )
    yield server
    server.stop()


def ask(server: ServerProcess, workflow: str, query: str, **fields: object) -> Reply:
    body = {"query": query, "workflow_type": workflow, "preferences": PREFERENCES, **fields}
    return server.request("POST", "/api/query", body)


def check_cited(answer: dict[str, Any], *titles: str) -> None:
    """See that the answer cites pages of these titles, each by its number, and quotes them."""
    sources = answer["metadata"]["sources"]
    assert [one["metadata"]["number"] for one in sources] == list(range(1, len(sources) + 1))
    assert {one["metadata"]["title"] for one in sources} >= set(titles)
    for source in sources:
        assert f"[{source['metadata']['number']}]" in answer["result"]
        assert source["metadata"]["url"] in answer["result"]


def test_a_question_is_answered_from_a_page_that_is_cited(serving: ServerProcess) -> None:
    reply = ask(serving, SEARCH, OPENED)

    answer = reply.json
    assert (reply.status, answer["status"]) == (200, "success"), answer
    check_cited(answer, "Golden Gate Bridge")
    assert "1937" in answer["result"]
    assert NOTICE in answer["result"]
    assert 0 < answer["metadata"]["confidence"] <= 1
    assert answer["metadata"]["usage"]["completion_tokens"] > 0


def test_a_comparison_is_answered_part_by_part(serving: ServerProcess) -> None:
    reply = ask(serving, SELF_ASK, HIGHER)

    answer = reply.json
    assert (reply.status, answer["status"]) == (200, "success"), answer
    check_cited(answer, "Mount Everest", "K2")
    assert answer["result"].count("\n- ") >= 1


def test_the_progress_and_the_answer_are_streamed(serving: ServerProcess) -> None:
    body = {"query": OPENED, "workflow_type": SEARCH, "preferences": PREFERENCES, "stream": True}
    stream = serving.open_stream(body, "/api/query")
    with stream:
        events = [json.loads(event) for event in stream]

    steps = [event["step"] for event in events if event.get("status") == "ended"]
    pieces = [event["text"] for event in events if set(event) == {"text"}]
    assert steps == ["search", "read", "summarise", "answer", "keep"]
    assert "".join(pieces) == events[-1]["result"]
    assert len(pieces) > 1


@pytest.mark.parametrize(("workflow", "question"), [(SEARCH, OPENED), (SELF_ASK, HIGHER)])
def test_either_is_asked_as_a_model(serving: ServerProcess, workflow: str, question: str) -> None:
    with OpenAI(base_url=f"{serving.url}/v1", api_key="none", max_retries=0) as client:
        stream = client.chat.completions.create(
            model=f"workflow/{workflow}",
            messages=[{"role": "user", "content": question}],
            stream=True,
            max_tokens=60,
            temperature=0,
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

    assert "Sources:\n[1] " in text
    assert NOTICE in text


@pytest.mark.parametrize(("workflow", "question"), [(SEARCH, OPENED), (SELF_ASK, HIGHER)])
def test_either_is_asked_on_the_command_line(
    own_data: dict[str, str], tmp_path: Path, workflow: str, question: str
) -> None:
    answered = run_cli(
        "--workflow",
        workflow,
        "--max-tokens",
        "60",
        "--temperature",
        "0",
        question,
        directory=tmp_path,
        environment=own_data,
    )

    assert answered.returncode == 0, answered.stderr
    assert "Sources:\n[1] " in answered.stdout
    assert NOTICE in answered.stdout


def test_what_no_page_is_about_is_not_answered(serving: ServerProcess) -> None:
    answer = ask(serving, SEARCH, "Who won the football championship in 1998?").json

    assert answer["result"].startswith("I don't know. Nothing was found about this.")
    assert (answer["status"], answer["metadata"]["sources"]) == ("success", [])
    assert answer["metadata"]["confidence"] == 0
    told = "The answer is 0.00 sure, below 0.30: it says that it does not know."
    assert answer["metadata"]["remarks"] == [{"step": "answer", "message": told}]


@pytest.mark.parametrize("workflow", [SEARCH, SELF_ASK])
def test_without_the_network_it_is_said_and_the_result_is_partial(
    away: ServerProcess, workflow: str
) -> None:
    answer = ask(away, workflow, HIGHER).json

    assert answer["status"] == "partial"
    assert "The web cannot be searched: http://127.0.0.1:9 cannot be reached" in answer["result"]
    assert "cannot be searched" in answer["metadata"]["failed_steps"][0]["message"]


def test_a_run_whose_time_is_over_says_so_and_leaves_nothing_behind(
    serving: ServerProcess,
) -> None:
    preferences = {**PREFERENCES, "timeout_s": 0.01}

    reply = ask(serving, SELF_ASK, HIGHER, preferences=preferences)

    assert reply.status in {200, 504}
    if reply.status == 200:
        assert reply.json["status"] == "partial"
    wait_until_idle(serving)


@pytest.mark.parametrize("workflow", [SEARCH, SELF_ASK])
def test_a_client_that_goes_away_leaves_nothing_behind(
    serving: ServerProcess, workflow: str
) -> None:
    body = {"query": HIGHER, "workflow_type": workflow, "stream": True}
    with serving.open_stream(body, "/api/query") as stream:
        events = iter(stream)
        while json.loads(next(events)).get("step") not in {"summarise", "parts"}:
            pass

    wait_until_idle(serving)


def wait_until_idle(server: ServerProcess) -> None:
    """See that what runs and waits comes down to nothing, by what the next answer needs."""
    reply = ask(server, "chat_generate", "Hi", preferences={"max_tokens": 1})
    assert reply.status == 200
    health = server.request("GET", "/health").json
    assert (health["status"], health["queue_size"]) == ("healthy", 0)

"""Answers from recorded pages by the real model, and what is said without the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

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


def test_a_question_is_answered_from_a_page_that_is_cited(server: ServerProcess) -> None:
    reply = ask(server, SEARCH, OPENED)

    answer = reply.json
    assert (reply.status, answer["status"]) == (200, "success"), answer
    check_cited(answer, "Golden Gate Bridge")
    assert "1937" in answer["result"]
    assert NOTICE in answer["result"]
    assert 0 < answer["metadata"]["confidence"] <= 1
    assert answer["metadata"]["usage"]["completion_tokens"] > 0


def test_a_comparison_is_answered_part_by_part(server: ServerProcess) -> None:
    reply = ask(server, SELF_ASK, HIGHER)

    answer = reply.json
    assert (reply.status, answer["status"]) == (200, "success"), answer
    check_cited(answer, "Mount Everest", "K2")
    assert answer["result"].count("\n- ") >= 1


def test_what_no_page_is_about_is_not_answered(server: ServerProcess) -> None:
    answer = ask(server, SEARCH, "Who won the football championship in 1998?").json

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


def test_without_the_network_openais_path_and_the_command_line_say_so_too(
    away: ServerProcess, own_data: dict[str, str], tmp_path: Path
) -> None:
    messages = [{"role": "user", "content": OPENED}]
    answer = away.request(
        "POST", "/v1/chat/completions", {"model": f"workflow/{SEARCH}", "messages": messages}
    ).json
    port = {"MUAI_MON_SERVER_PORT": away.url.rpartition(":")[2]}
    spoken = run_cli("--workflow", SEARCH, OPENED, directory=tmp_path, environment=own_data | port)

    [failed] = answer["muai"]["failed_steps"]
    assert failed["step"] == "search"
    assert "cannot be searched" in failed["message"]
    assert (spoken.returncode, spoken.stdout.strip()) == (
        0,
        answer["choices"][0]["message"]["content"],
    )
    assert spoken.stderr == f"The answer is without a part. search: {failed['message']}\n"

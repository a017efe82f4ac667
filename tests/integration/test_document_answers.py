"""Questions to uploaded documents, with the real models in a real server."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.retrieval.citations import SourceText
from mm_orch.workflows.rag_prompt import REFUSAL
from tests.conftest import EMBEDDING_MODEL, EMBEDDING_SOURCE
from tests.processes import ROOT, start_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes import Reply, ServerProcess

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("builtin_model", "embedding_model")]

CORPUS = ROOT / "benchmarks/rag/documents"
NAMES = ("cape-merrow-light.md", "hearn-brewery.md")
CONFIG: dict[str, Any] = {
    "models": {EMBEDDING_MODEL: {"source": EMBEDDING_SOURCE, "task": "embed"}},
    "api": {
        "enable_auth": True,
        "api_keys": [{"name": "ada", "key": "sk-ada"}, {"name": "bob", "key": "sk-bob"}],
    },
}
ANSWERABLE = "On what date was Cape Merrow Light first lit?"
DATE = "3 October 1834"
UNANSWERABLE = "What is the capital of Mongolia?"
CITED = re.compile(r"(?P<said>[^\n]*?)\s\[(?P<number>\d+)\](?=\s|$)")


@pytest.fixture(scope="module")
def serving(
    own_data: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    server = start_server(tmp_path_factory.mktemp("answers"), config=CONFIG, environment=own_data)
    for name in NAMES:
        content = (CORPUS / name).read_text("utf-8")
        reply = post(server, "/api/rag/upload", name=name, content=content)
        assert reply.status == 200, reply.body
    yield server
    server.stop()


def post(server: ServerProcess, path: str, key: str = "sk-ada", **body: object) -> Reply:
    return server.request("POST", path, body, {"X-API-Key": key})


def assert_borne_out(answer: str, sources: list[dict[str, Any]]) -> None:
    cited = list(CITED.finditer(answer))
    assert cited, answer
    for match in cited:
        source = sources[int(match["number"]) - 1]
        quoted = re.search(r'"(.*)"$', match["said"])
        if quoted is not None:
            assert quoted.group(1) in source["content"]
        else:
            place = SourceText(source["metadata"]["heading"], source["content"])
            assert place.find_share(match["said"]) >= 0.8


def test_an_answer_cites_passages_that_have_what_they_are_cited_for(
    serving: ServerProcess,
) -> None:
    reply = post(serving, "/api/rag/query", query=ANSWERABLE, top_k=3)

    told = reply.json
    assert reply.status == 200, reply.body
    assert told["status"] == "success"
    assert 0 < len(told["sources"]) <= 3
    assert any(DATE in source["content"] for source in told["sources"])
    assert told["sources"][0]["metadata"]["document"] in NAMES
    assert DATE in told["answer"]
    assert_borne_out(told["answer"], told["sources"])
    assert 0.4 < told["confidence"] <= 1


def test_what_the_documents_do_not_tell_is_declined(serving: ServerProcess) -> None:
    told = post(serving, "/api/rag/query", query=UNANSWERABLE).json

    assert told["answer"] == REFUSAL
    assert told["sources"] == []
    assert told["confidence"] < 0.2


def test_a_streamed_query_tells_its_steps_and_then_the_answer(serving: ServerProcess) -> None:
    reply = post(serving, "/api/query", query=ANSWERABLE, workflow_type="rag_qa", stream=True)

    events = [
        json.loads(line[6:]) for line in reply.body.decode().split("\n") if line[:6] == "data: "
    ]
    ended = [one["step"] for one in events if one.get("status") == "ended"]
    said = "".join(one["text"] for one in events if "text" in one)
    assert set(ended) >= {"look", "embed", "search_words", "search_vectors", "read", "judge"}
    assert events[-1]["result"] == said
    assert_borne_out(said, events[-1]["metadata"]["sources"])


def test_over_openais_path_each_key_asks_its_own_documents(serving: ServerProcess) -> None:
    asked: dict[str, Any] = {
        "model": "workflow/rag_qa",
        "messages": [{"role": "user", "content": ANSWERABLE}],
    }

    own = post(serving, "/v1/chat/completions", **asked)
    other = post(serving, "/v1/chat/completions", "sk-bob", **asked)

    assert DATE in own.json["choices"][0]["message"]["content"]
    assert other.status == 404
    assert other.json["error"]["code"] == "document_not_found"


def test_who_has_no_documents_is_told_to_upload_one(serving: ServerProcess) -> None:
    reply = post(serving, "/api/rag/query", "sk-bob", query=ANSWERABLE)

    assert reply.status == 404
    assert "POST /api/rag/upload" in reply.json["error"]["message"]

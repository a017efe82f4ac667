"""Servers that share a PostgreSQL database: what goes on when one of them, or it, is away."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.daemons import poll
from tests.processes import run_cli, start_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.postgres import Cluster
    from tests.processes import Reply, ServerProcess

pytestmark = pytest.mark.model

SECRET = "hunter2-never-shown"  # noqa: S105 - nobody asks for it
KEYS = [
    {"name": "ada", "key": "sk-ada", "admin": True},
    {"name": "bob", "key": "sk-bob"},
    # Nothing of it comes back while a test runs.
    {"name": "carol", "key": "sk-carol", "rate_limit_per_minute": 2},
]
CONFIG: dict[str, Any] = {
    "models": {"smollm2-135m": {"engines": ["echo"]}},
    "monitoring": {"prometheus": {"enabled": False}},
    "api": {"enable_auth": True, "api_keys": KEYS},
}
CHAT = {"messages": [{"role": "user", "content": "Hello."}], "max_tokens": 4}


def with_secret(url: str) -> str:
    return url.replace("@", f":{SECRET}@", 1)


class Servers:
    """Servers of one database, each with a data directory of its own."""

    def __init__(self, directory: Path, data_directory: Path, url: str) -> None:
        self._directory = directory
        self._data_directory = data_directory
        self._url = url
        self.started: list[ServerProcess] = []

    def start(self, num_servers: int) -> list[ServerProcess]:
        """Start so many at once."""
        with ThreadPoolExecutor() as pool:
            self.started += pool.map(self._start, range(num_servers))
        return self.started

    def _start(self, number: int) -> ServerProcess:
        place = self._directory / str(number)
        data = place / "data"
        data.mkdir(parents=True)
        (data / "models").symlink_to(self._data_directory / "models")
        environment = {"MUAI_STORAGE_URL": self._url, "MUAI_DATA_DIR": str(data)}
        return start_server(place, config=CONFIG, environment=environment)


@pytest.fixture
def servers(
    builtin_model: object,  # noqa: ARG001 - must be there before it is linked to
    data_directory: Path,
    postgres: Cluster,
    tmp_path: Path,
) -> Iterator[Servers]:
    url = postgres.make_database(is_empty=True)
    servers = Servers(tmp_path, data_directory, with_secret(url))
    yield servers
    for server in servers.started:
        if server.process.poll() is None:
            server.stop()
        # However it went, nobody is told the secret.
        assert SECRET not in server.log
    postgres.drop_database(url)


def ask(
    server: ServerProcess, method: str, path: str, body: object = None, key: str = "ada"
) -> Reply:
    return server.request(method, path, body, {"X-API-Key": f"sk-{key}"})


def say(server: ServerProcess, message: str, session_id: str | None = None) -> dict[str, Any]:
    reply = ask(server, "POST", "/api/chat", {"message": message, "session_id": session_id})
    assert reply.status == 200, reply.body
    return dict(reply.json)


def rate(server: ServerProcess, request_id: str) -> int:
    return ask(server, "POST", "/api/feedback", {"request_id": request_id, "score": 1.0}).status


def test_what_was_begun_on_one_server_goes_on_on_the_other_also_after_a_kill(
    servers: Servers,
) -> None:
    first, second = servers.start(2)
    session = say(first, "I live in Paris.")["session_id"]
    uploaded = ask(first, "POST", "/api/rag/upload", {"name": "a.txt", "content": "A heron."})
    assert uploaded.status in {200, 201}, uploaded.body
    turns = [say(server, "And now?", session)["turn_count"] for server in (second, first, second)]
    documents = ask(second, "GET", "/api/rag/documents").json
    strangers = ask(second, "GET", f"/api/sessions/{session}", key="bob").status
    # Counted, whatever is wrong with them.
    taken = [
        ask(server, "POST", "/v1/chat/completions", {}, key="carol").status
        for server in (first, second, first, second)
    ]
    asked = ask(first, "POST", "/api/query", {"query": "Hello?"}).headers["x-request-id"]
    # Stored about a second after it was answered.
    poll(lambda: rate(second, asked), lambda status: status == 200, "rating another's answer")
    usage = {one["name"]: one for one in ask(second, "GET", "/admin/usage").json["callers"]}

    first.stop(signal.SIGKILL)
    after = say(second, "Are you there?", session)
    stored = ask(second, "GET", f"/api/sessions/{session}").json
    exported = ask(second, "GET", "/api/export/sessions")

    assert turns == [2, 3, 4]
    assert [one["name"] for one in documents["documents"]] == ["a.txt"]
    assert strangers == 404
    assert taken == [400, 400, 429, 429]
    assert usage["ada"]["num_requests"] >= 2
    assert after["turn_count"] == 5
    questions = [one["content"] for one in stored["messages"] if one["role"] == "user"]
    assert questions == ["I live in Paris.", *["And now?"] * 3, "Are you there?"]
    assert exported.body.count(b"\n") == 2


def test_while_the_database_is_away_the_rest_is_answered_and_all_is_when_it_is_back(
    servers: Servers, postgres: Cluster
) -> None:
    [server] = servers.start(1)
    session = say(server, "I live in Paris.")["session_id"]
    postgres.stop()
    try:
        refused = ask(server, "POST", "/api/chat", {"message": "And now?", "session_id": session})
        answered = ask(server, "POST", "/v1/chat/completions", CHAT)
        limited = [ask(server, "POST", "/v1/chat/completions", {}, "carol").status for _ in "123"]
        health = server.request("GET", "/health")
        ready = server.request("GET", "/ready").status
    finally:
        postgres.start()
    # Nobody asks for anything stored: the server notices by itself.
    server.wait_for("/health", lambda reply: reply.json["status"] == "healthy")
    after = say(server, "And now?", session)

    assert (refused.status, refused.json["error"]["code"]) == (503, "storage_unavailable")
    assert "storage.url" in refused.json["error"]["message"]
    assert int(refused.headers["retry-after"]) >= 1
    assert answered.status == 200
    # By this server alone.
    assert limited == [400, 400, 429]
    assert (health.status, ready) == (200, 200)
    assert health.json["status"] == "degraded"
    [reason] = health.json["degradation_reasons"]
    assert reason.startswith("no session or document can be stored: The database of storage.url")
    assert after["turn_count"] == 2


def test_a_server_whose_database_is_away_does_not_start_and_names_the_option(
    tmp_path: Path,
) -> None:
    url = f"postgresql://muai:{SECRET}@/sessions?host={tmp_path}"
    ended = run_cli(
        "--server", "--port", "0", directory=tmp_path, environment={"MUAI_STORAGE_URL": url}
    )

    assert ended.returncode == 1
    assert "The database of storage.url cannot be reached: connection" in ended.stderr
    logged = "".join(path.read_text() for path in tmp_path.glob("logs/*"))
    assert SECRET not in ended.stdout + ended.stderr + logged

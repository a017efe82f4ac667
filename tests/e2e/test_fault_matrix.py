"""Every fault at every path, on a real server whose first engine can be told to misbehave.

docs/fault-matrix.md is the same table for people; a test compares the two.
"""

from __future__ import annotations

import json
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests import odd_engines as odd
from tests.conftest import EMBEDDING_SOURCE
from tests.processes import ROOT, ServerProcess, start_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.model

MODEL = "smollm2-135m"
EMBEDDER = "minilm"
WATCHDOG_S = 2.0
NUM_TOKENS = 100
CHAT = {"messages": [{"role": "user", "content": "One two three four five six seven."}]}
TEXT = {"prompt": "One two three four five six seven."}
SAMPLING = {"max_tokens": NUM_TOKENS, "temperature": 0, "ignore_eos": True}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client got.

    Attributes:
        engines: who lost it and who went on, one a failover.
        error: the code of the error that ended it.
    """

    status: int
    text: str
    engines: tuple[tuple[str, str], ...] = ()
    error: str | None = None


def ask_stream(server: ServerProcess, **more: object) -> Answer:
    """Read a streamed chat to its end."""
    text, failovers, error, is_done = "", (), None, False
    with server.open_stream({**CHAT, **SAMPLING, "stream": True, **more}) as stream:
        for event in stream:
            if event == "[DONE]":
                is_done = True
                continue
            chunk = json.loads(event)
            error = chunk.get("error", {}).get("code")
            failovers = failovers_in(chunk) or failovers
            for choice in chunk.get("choices", ()):
                text += choice["delta"].get("content", "")
    # A stream ends in exactly one of the two.
    assert is_done is (error is None)
    return Answer(200, text, failovers, error)


def ask_chat(server: ServerProcess, **more: object) -> Answer:
    return ask_whole(server, "/v1/chat/completions", {**CHAT, **SAMPLING, **more})


def ask_text(server: ServerProcess, **more: object) -> Answer:
    return ask_whole(server, "/v1/completions", {**TEXT, **SAMPLING, **more})


def ask_whole(server: ServerProcess, path: str, body: dict[str, object]) -> Answer:
    reply = server.request("POST", path, body)
    if reply.status != 200:
        return Answer(reply.status, "", error=reply.json["error"]["code"])
    [choice] = reply.json["choices"]
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    return Answer(200, text, failovers_in(reply.json))


def failovers_in(body: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    told = body.get("muai", {}).get("failovers", ())
    return tuple((one["from"], one["to"]) for one in told)


def ask_vectors(server: ServerProcess, **more: object) -> Answer:
    """Ask for vectors; their numbers stand for text."""
    more.pop("max_tokens", None)
    reply = server.request("POST", "/v1/embeddings", {"input": ["One two.", "Three"], **more})
    if reply.status != 200:
        return Answer(reply.status, "", error=reply.json["error"]["code"])
    text = json.dumps([one["embedding"] for one in reply.json["data"]])
    return Answer(200, text, failovers_in(reply.json))


PATHS: dict[str, Callable[..., Answer]] = {
    "chat, streamed": ask_stream,
    "chat": ask_chat,
    "completion": ask_text,
    "embeddings": ask_vectors,
}


@pytest.fixture
def switch(tmp_path: Path) -> odd.Switch:
    directory = tmp_path / "plug-ins"
    directory.mkdir()
    return odd.install(directory)


@pytest.fixture
def launch(
    builtin_model: object,  # noqa: ARG001 - must be there before a server starts
    embedding_model: object,  # noqa: ARG001
    tmp_path: Path,
    switch: odd.Switch,
) -> Iterator[Callable[..., ServerProcess]]:
    servers: list[ServerProcess] = []

    def start(*engines: str, **options: object) -> ServerProcess:
        config = {
            "models": {
                MODEL: {"engines": list(engines)},
                EMBEDDER: {
                    "source": EMBEDDING_SOURCE,
                    "task": "embed",
                    "engines": list(engines),
                },
            },
            "monitoring": {"server": {"preload_models": [MODEL, EMBEDDER]}},
            "orchestration": {"watchdog_timeout_s": WATCHDOG_S},
            **options,
        }
        environment = dict(switch.environment)
        environment["PYTHONPATH"] += f":{ROOT}"
        servers.append(start_server(tmp_path, config=config, environment=environment))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
        server.stop()


def wait_for_engine(server: ServerProcess, path: str, engine: str) -> None:
    end_s = time.monotonic() + 60
    model = EMBEDDER if path == "embeddings" else MODEL
    while True:
        told = server.request("GET", f"/health/models/{model}").json
        if told["status"] == "ready" and told["engine"] == engine:
            return
        assert time.monotonic() < end_s, told
        time.sleep(0.05)


@pytest.mark.parametrize("fault", [*odd.FAULTS])
def test_with_a_second_engine_every_fault_ends_in_the_whole_answer(
    fault: str, launch: Callable[..., ServerProcess], switch: odd.Switch
) -> None:
    server = launch("odd", "spare")
    undisturbed = {path: ask(server).text for path, ask in PATHS.items()}
    assert all(len(text) > 100 for text in undisturbed.values())
    for path, ask in PATHS.items():
        if (path, fault) == ("embeddings", "invent tokens"):
            # There are no tokens to invent.
            continue
        wait_for_engine(server, path, "odd")
        switch.order(fault)

        answer = ask(server)

        assert switch.is_done, path
        assert (answer.status, answer.error) == (200, None), path
        assert answer.text == undisturbed[path], path
        if path == "embeddings" and fault in {"run out of memory", "break"}:
            # Its texts were tried alone, and the fault did not come again.
            assert answer.engines == ()
            continue
        # One that is still there after it failed a step may be given another chance.
        [(lost, _)] = answer.engines
        assert lost == "odd", path


def test_an_engine_that_refuses_to_start_is_replaced_before_anybody_asks(
    launch: Callable[..., ServerProcess], switch: odd.Switch
) -> None:
    switch.turn_on()
    server = launch("refusing", "spare")

    for ask in PATHS.values():
        answer = ask(server)
        assert (answer.status, answer.error, answer.engines) == (200, None, ())
    reply = server.request("POST", "/v1/completions", {**TEXT, **SAMPLING})
    assert reply.headers["x-muai-engine"] == "spare"
    told = reply.headers["x-muai-fallback"]
    assert told.startswith('refusing->spare; reason="It does not want to')
    health = server.request("GET", "/health").json
    assert health["status"] == "degraded"
    assert "runs on spare in place of refusing" in health["degradation_reasons"][0]


def test_a_slow_engine_is_waited_for_until_the_deadline(
    launch: Callable[..., ServerProcess],
) -> None:
    server = launch("slow", "spare")

    for ask in PATHS.values():
        answer = ask(server, max_tokens=4)
        assert (answer.status, answer.error, answer.engines) == (200, None, ())
    assert ask_stream(server, timeout_s=0.5).error == "deadline_exceeded"
    for ask in (ask_chat, ask_text, ask_vectors):
        late = ask(server, timeout_s=0.1)
        assert (late.status, late.error) == (504, "deadline_exceeded")
    # Slowness is no fault of the kind that moves a model.
    assert server.request("GET", f"/health/models/{MODEL}").json["engine"] == "slow"


def test_a_server_that_is_told_to_end_finishes_what_runs(
    launch: Callable[..., ServerProcess],
) -> None:
    server = launch("odd", "spare")
    # Long enough to be told to end while all four run.
    long = {"max_tokens": 400}
    undisturbed = ask_stream(server, **long).text
    streams = [server.open_stream({**CHAT, **SAMPLING, **long, "stream": True}) for _ in range(4)]
    readers = [iter(stream) for stream in streams]
    firsts = [[next(reader), next(reader)] for reader in readers]

    server.process.send_signal(signal.SIGTERM)

    for first, reader in zip(firsts, readers, strict=True):
        *chunks, done = [*first, *reader]
        assert done == "[DONE]"
        choices = [choice for chunk in chunks for choice in json.loads(chunk)["choices"]]
        assert "".join(one["delta"].get("content", "") for one in choices) == undisturbed
    for stream in streams:
        stream.close()
    assert server.wait() == 0


def test_bad_requests_open_no_circuit(launch: Callable[..., ServerProcess]) -> None:
    server = launch("odd", "spare")
    bad: list[dict[str, object]] = [
        {**TEXT, "max_tokens": 10**6},
        {**TEXT, "temperature": 9},
        {"prompt": [10**6]},
        {"prompt": "word " * 20_000},
        {**TEXT, "nonsense": 1},
    ]
    for _ in range(20):
        for body in bad:
            assert server.request("POST", "/v1/completions", body).status == 400

    model = server.request("GET", f"/api/models/{MODEL}").json
    assert set(model["circuits"].values()) == {"closed"}
    assert ask_chat(server).engines == ()
    assert model["engine"] == "odd"


def test_the_page_for_people_has_every_fault_and_every_path() -> None:
    page = (ROOT / "docs/fault-matrix.md").read_text()

    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert rows[0].split(" | ")[1:] == [*list(PATHS)[:-1], "embeddings |"]
    told = "\n".join(row.split(" | ")[0] for row in rows)
    for fault in (*odd.FAULTS, "refuse to start", "slow", "disk full", "SIGTERM"):
        assert f"| {fault}" in told

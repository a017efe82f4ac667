"""Faults that are made to happen to a real server, and what its clients must get all the same.

The workers of its models run beside it, one or several a model, or on a Ray cluster.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.conftest import EMBEDDING_SOURCE
from tests.processes import ROOT, start_server
from tests.streams import wait_for_replicas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from tests import odd_engines as odd
    from tests.processes import ServerProcess

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the workers of a model run.

    Attributes:
        num_replicas: how many there are.
        arguments: what the server is started with for it.
        environment: variables of the server for it.
    """

    num_replicas: int = 1
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


class Stage:
    """Starts servers whose engines do what the switch says.

    Args:
        directory: of the servers' files.
        switch: of the engines that misbehave.
        place: where their workers run.
    """

    def __init__(self, directory: Path, switch: odd.Switch, place: Place) -> None:
        self.switch = switch
        self._directory = directory
        self._place = place
        self._servers: list[ServerProcess] = []

    @property
    def has_replicas(self) -> bool:
        return self._place.num_replicas > 1

    def launch(self, *engines: str) -> ServerProcess:
        """Start a server whose models may run on these engines; wait for all replicas."""
        of_all = {"engines": list(engines), "replicas": self._place.num_replicas}
        config = {
            "models": {
                MODEL: of_all,
                EMBEDDER: {"source": EMBEDDING_SOURCE, "task": "embed", **of_all},
            },
            "monitoring": {"server": {"preload_models": [MODEL, EMBEDDER]}},
            "orchestration": {"watchdog_timeout_s": WATCHDOG_S},
        }
        server = start_server(
            self._directory,
            config=config,
            arguments=self._place.arguments,
            environment={**environment_of(self.switch), **self._place.environment},
        )
        self._servers.append(server)
        for model in (MODEL, EMBEDDER):
            wait_for_replicas(server, model, self._place.num_replicas)
        return server

    def wait_for_engine(self, server: ServerProcess, path: str, engine: str) -> list[int]:
        """Wait until all workers that a path uses run on this engine; return their processes."""
        model = EMBEDDER if path == "embeddings" else MODEL
        told = wait_for_replicas(server, model, self._place.num_replicas, engine=engine)
        return [one["worker_pid"] for one in told]

    def close(self) -> None:
        """End whatever still runs."""
        for server in self._servers:
            if server.process.poll() is None:
                server.process.kill()
            server.stop()


def environment_of(switch: odd.Switch) -> dict[str, str]:
    """Return the variables with which a process finds the switch, its engines and this project."""
    environment = dict(switch.environment)
    environment["PYTHONPATH"] += f":{ROOT}"
    return environment


def check_fault(
    stage: Stage, server: ServerProcess, fault: str, paths: Iterable[str] = tuple(PATHS)
) -> None:
    """Check that the fault of ``odd`` ends in the whole answer, path by path."""
    for path in paths:
        if (path, fault) == ("embeddings", "invent tokens"):
            # There are no tokens to invent.
            continue
        ask = PATHS[path]
        stage.wait_for_engine(server, path, "odd")
        undisturbed = ask(server).text
        assert len(undisturbed) > 100
        stage.switch.order(fault)

        answer = ask(server)

        assert stage.switch.is_done, path
        assert (path, answer.status, answer.error) == (path, 200, None)
        assert answer.text == undisturbed, path
        if path == "embeddings" and fault in {"run out of memory", "break"}:
            # Its texts were tried alone, and the fault did not come again.
            assert answer.engines == ()
            continue
        # One that is still there after it failed a step may be given another chance.
        [(lost, successor)] = answer.engines
        assert lost == "odd", path
        if stage.has_replicas:
            # A replica that runs already, in place of an engine that would have to be started.
            assert successor == "odd", path


def check_refusal(stage: Stage) -> None:
    """Check that an engine that refuses to start is replaced before anybody asks."""
    stage.switch.turn_on()
    server = stage.launch("refusing", "spare")

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


def check_engine_lost_everywhere(stage: Stage) -> None:
    """Check that all workers move to the next engine where theirs is gone, and back to it."""
    server = stage.launch("refusing", "spare")
    undisturbed = ask_stream(server).text
    pids = stage.wait_for_engine(server, "chat", "refusing")
    stage.switch.turn_on()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)

    assert ask_stream(server).text == undisturbed
    stage.wait_for_engine(server, "chat", "spare")
    assert server.request("GET", "/health").json["status"] == "degraded"
    stage.switch.turn_off()
    stage.wait_for_engine(server, "chat", "refusing")
    assert ask_stream(server) == Answer(200, undisturbed)


def check_slowness(stage: Stage) -> None:
    """Check that a slow engine is waited for until the deadline."""
    server = stage.launch("slow", "spare")

    for ask in PATHS.values():
        answer = ask(server, max_tokens=4)
        assert (answer.status, answer.error, answer.engines) == (200, None, ())
    assert ask_stream(server, timeout_s=0.5).error == "deadline_exceeded"
    for ask in (ask_chat, ask_text, ask_vectors):
        late = ask(server, timeout_s=0.1)
        assert (late.status, late.error) == (504, "deadline_exceeded")
    # Slowness is no fault of the kind that moves a model.
    stage.wait_for_engine(server, "chat", "slow")


def check_end(stage: Stage) -> None:
    """Check that a server that is told to end finishes what runs."""
    server = stage.launch("odd", "spare")
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


def check_bad_requests(stage: Stage) -> None:
    """Check that bad requests open no circuit."""
    server = stage.launch("odd", "spare")
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
    assert model["num_restarts"] == 0
    assert ask_chat(server).engines == ()
    stage.wait_for_engine(server, "chat", "odd")

"""Streamed answers that threads read, so that a test can act while they arrive."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.processes import OpenStream, ServerProcess

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
# How often the server is asked again; it decides nothing but how soon a test goes on.
_POLL_S = 0.05


@dataclass(slots=True)
class Told:
    """What a client was told.

    Attributes:
        engine: who answered first, as the header says.
        fallback: in whose place and why, as the header says.
        pieces: the texts of the chunks that have any.
        tokens: the bytes of each token, where log probabilities were asked for.
        failovers: what the ``muai`` field says.
        num_ends: how often the stream said that it is done.
    """

    engine: str = ""
    fallback: str = ""
    pieces: list[str] = field(default_factory=list)
    tokens: list[bytes] = field(default_factory=list)
    finish_reasons: list[str] = field(default_factory=list)
    usages: list[dict[str, Any]] = field(default_factory=list)
    failovers: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    num_ends: int = 0

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def moves(self) -> list[tuple[str, str]]:
        """From which engine to which it went on, each time."""
        return [(one["from"], one["to"]) for one in self.failovers]

    @property
    def num_tokens(self) -> int:
        return int(self.usages[-1]["completion_tokens"])

    def add(self, event: str) -> None:
        """Take the payload of one event."""
        assert self.num_ends == 0, f"after the end came {event}"
        if event == "[DONE]":
            self.num_ends += 1
            return
        chunk = json.loads(event)
        if "error" in chunk:
            self.errors.append(chunk["error"])
            return
        self.failovers = chunk.get("muai", {}).get("failovers", self.failovers)
        if chunk.get("usage") is not None:
            self.usages.append(chunk["usage"])
        for choice in chunk["choices"]:
            self._add_choice(choice)

    def _add_choice(self, choice: Mapping[str, Any]) -> None:
        text = choice["delta"].get("content", "") if "delta" in choice else choice["text"]
        if text:
            self.pieces.append(text)
        for token in (choice["logprobs"] or {}).get("content", ()):
            self.tokens.append(bytes(token["bytes"]))
        if choice["finish_reason"] is not None:
            self.finish_reasons.append(choice["finish_reason"])


class Reading:
    """One streamed answer that a thread of its own reads to the end, usage included."""

    def __init__(
        self, server: ServerProcess, path: str, body: Mapping[str, object], timeout_s: float = 120
    ) -> None:
        self._server = server
        self._path = path
        self._body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        self._timeout_s = timeout_s
        self._told = Told()
        self._news = threading.Condition()
        self._is_over = False
        thread = ThreadPoolExecutor(1)
        self._future = thread.submit(self._read)
        thread.shutdown(wait=False)

    @property
    def is_over(self) -> bool:
        return self._is_over

    @property
    def engine(self) -> str:
        """Who answered first; empty until that is known."""
        return self._told.engine

    def wait_for_pieces(self, count: int) -> bool:
        """Wait until so many pieces of text have come; return whether it is still going on."""
        with self._news:
            is_there = self._news.wait_for(
                lambda: self._is_over or len(self._told.pieces) >= count, self._timeout_s
            )
        assert is_there, f"nothing more came in {self._timeout_s} s: {self._told}"
        return not self._is_over

    def result(self) -> Told:
        """Wait for the end and return all that was told."""
        return self._future.result(self._timeout_s)

    def _read(self) -> Told:
        try:
            with self._server.open_stream(self._body, self._path) as stream:
                for event in stream:
                    self._take(event, stream)
        finally:
            with self._news:
                self._is_over = True
                self._news.notify_all()
        return self._told

    def _take(self, event: str, stream: OpenStream) -> None:
        with self._news:
            self._told.engine = stream.header("x-muai-engine")
            self._told.fallback = stream.header("x-muai-fallback")
            self._told.add(event)
            self._news.notify_all()


def model_of(server: ServerProcess, model: str) -> dict[str, Any]:
    """Return what the server says of a model: phase, engine, worker_pid, circuits."""
    report: dict[str, Any] = server.request("GET", f"/api/models/{model}").json
    return report


def wait_for_engine(
    server: ServerProcess, model: str, engine: str, timeout_s: float = 90
) -> dict[str, Any]:
    """Wait until this engine serves the model; return what the server says of it then."""
    return wait_for_model(server, model, timeout_s, phase="ready", engine=engine)


def wait_for_model(
    server: ServerProcess, model: str, timeout_s: float = 90, **facts: object
) -> dict[str, Any]:
    """Wait until the server says all of this of the model; return what it says then."""
    end_s = time.monotonic() + timeout_s
    while True:
        report = model_of(server, model)
        if report.items() >= facts.items():
            return report
        assert time.monotonic() < end_s, f"{report}\n{server.log}"
        time.sleep(_POLL_S)


def wait_for_replicas(
    server: ServerProcess, model: str, count: int, timeout_s: float = 90, **facts: object
) -> list[dict[str, Any]]:
    """Wait until so many replicas serve, and the server says all of this of each."""
    wanted = {"phase": "ready", "is_draining": False, **facts}
    end_s = time.monotonic() + timeout_s
    while True:
        told: list[dict[str, Any]] = model_of(server, model)["replicas"]
        if len(told) == count and all(one.items() >= wanted.items() for one in told):
            return told
        assert time.monotonic() < end_s, f"{told}\n{server.log}"
        time.sleep(_POLL_S)


def kill_worker(server: ServerProcess, model: str, engine: str) -> None:
    """Kill the worker that serves the model, which this engine runs; of several, the busiest.

    Any other would never meet a lone stream, which goes where its prompt is held.
    """
    report = model_of(server, model)
    assert (report["phase"], report["engine"]) == ("ready", engine)
    replicas = [one for one in report["replicas"] if one["worker_pid"] is not None]
    busiest = max(replicas, key=lambda one: one["num_queued_tokens"], default=report)
    os.kill(busiest["worker_pid"], signal.SIGKILL)


def count_failovers(server: ServerProcess) -> float:
    """Return how often answers went on with another worker, as the metrics have it."""
    metrics = server.request("GET", "/metrics").body.decode()
    return sum(map(float, re.findall(r"^request_failovers_total\S* (\S+)$", metrics, re.MULTILINE)))

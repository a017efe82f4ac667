"""The ways to a workflow: the command line, the native path and OpenAI's, each as one client."""

from __future__ import annotations

import json
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from openai import APIStatusError, OpenAI

from tests.processes import run_cli, start_cli

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from openai.types.chat import ChatCompletionMessageParam

    from tests.processes import ServerProcess


@dataclass(frozen=True)
class Asked:
    """A question to a workflow, and the longest answer; None for any length."""

    workflow: str
    question: str
    max_tokens: int | None = None

    @property
    def preferences(self) -> dict[str, Any]:
        bound = {} if self.max_tokens is None else {"max_tokens": self.max_tokens}
        return {"temperature": 0, **bound}


@dataclass(frozen=True)
class Heard:
    """An answer; ``pieces`` are its text as it came, one where it came whole."""

    pieces: tuple[str, ...]
    finish_reason: str

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Client(Protocol):
    """Asks, each time over a connection of its own."""

    def ask(self, asked: Asked) -> Heard:
        """Have the answer whole."""

    def listen(self, asked: Asked) -> Heard:
        """Have it streamed."""

    def leaving(self, asked: Asked) -> AbstractContextManager[None]:
        """Ask for a stream; leaving the context is going away without an answer."""

    def hurry(self, asked: Asked, timeout_s: float) -> str:
        """Ask with so little time; return the one message that is told."""


@dataclass(frozen=True)
class NativeClient:
    """POST /api/query."""

    server: ServerProcess

    def ask(self, asked: Asked) -> Heard:
        reply = self.server.request("POST", "/api/query", _query(asked))
        assert reply.status == 200, reply.body
        assert reply.json["status"] == "success", reply.body
        metadata = reply.json["metadata"]
        return Heard((reply.json["result"],), metadata["finish_reason"])

    def listen(self, asked: Asked) -> Heard:
        with self.server.open_stream(_query(asked, stream=True), "/api/query") as stream:
            events = [json.loads(data) for data in stream]
        pieces = tuple(one["text"] for one in events if set(one) == {"text"})
        end = events[-1]
        assert end.get("status") == "success", end
        assert "".join(pieces) == end["result"]
        return Heard(pieces, end["metadata"]["finish_reason"])

    @contextmanager
    def leaving(self, asked: Asked) -> Iterator[None]:
        with self.server.open_stream(_query(asked, stream=True), "/api/query") as stream:
            # It has begun.
            assert json.loads(next(iter(stream)))["status"] == "started"
            yield

    def hurry(self, asked: Asked, timeout_s: float) -> str:
        preferences = asked.preferences | {"timeout_s": timeout_s}
        reply = self.server.request(
            "POST", "/api/query", _query(asked) | {"preferences": preferences}
        )
        told = reply.json
        assert (reply.status, told["status"], told["workflow_type"]) == (
            504,
            "failed",
            asked.workflow,
        )
        assert told["error"]["code"] == "deadline_exceeded"
        return str(told["error"]["message"])


@dataclass(frozen=True)
class OpenAIClient:
    """POST /v1/chat/completions, by OpenAI's own client."""

    server: ServerProcess

    def ask(self, asked: Asked) -> Heard:
        with self._open() as client:
            answer = client.chat.completions.create(
                model=_model(asked),
                messages=_messages(asked),
                stream=False,
                **asked.preferences,
            )
        [choice] = answer.choices
        return Heard((choice.message.content or "",), choice.finish_reason)

    def listen(self, asked: Asked) -> Heard:
        with (
            self._open() as client,
            client.chat.completions.create(
                model=_model(asked), messages=_messages(asked), stream=True, **asked.preferences
            ) as stream,
        ):
            choices = [choice for chunk in stream for choice in chunk.choices]
        pieces = tuple(one.delta.content for one in choices if one.delta.content)
        return Heard(pieces, choices[-1].finish_reason or "")

    @contextmanager
    def leaving(self, asked: Asked) -> Iterator[None]:
        body = {"model": _model(asked), "messages": _messages(asked), "stream": True}
        with self.server.open_stream(body | asked.preferences):
            # The head of the answer comes with its first words.
            yield

    def hurry(self, asked: Asked, timeout_s: float) -> str:
        with self._open() as client, pytest.raises(APIStatusError) as raised:
            client.chat.completions.create(
                model=_model(asked),
                messages=_messages(asked),
                stream=True,
                extra_body={"timeout_s": timeout_s},
                **asked.preferences,
            )
        error = raised.value
        assert (error.status_code, error.code) == (504, "deadline_exceeded")
        return str(error.response.json()["error"]["message"])

    def _open(self) -> OpenAI:
        return OpenAI(base_url=f"{self.server.url}/v1", api_key="none", max_retries=0)


@dataclass(frozen=True)
class CommandLine:
    """``--workflow NAME``: answered by the server, whose deadline only it sets, else alone."""

    directory: Path
    config: Mapping[str, Any]
    environment: Mapping[str, str]
    port: int = 0

    def ask(self, asked: Asked) -> Heard:
        told = json.loads(self._run(asked, "--json"))
        assert told["answered_by"].startswith("http://" if self.port else "this process")
        return Heard((told["text"],), told["finish_reason"])

    def listen(self, asked: Asked) -> Heard:
        return Heard((self._run(asked).removesuffix("\n"),), "")

    @contextmanager
    def leaving(self, asked: Asked) -> Iterator[None]:
        arguments = self._arguments(asked)
        with start_cli(
            *arguments, directory=self.directory, environment=self.environment
        ) as process:
            yield
            process.send_signal(signal.SIGINT)
            told, complained = process.communicate(timeout=60)
        assert (process.returncode, told, complained) == (130, "", "")

    def hurry(self, asked: Asked, timeout_s: float) -> str:
        result = run_cli(
            *self._arguments(asked, {"workflows": {"deadline_s": timeout_s}}),
            directory=self.directory,
            environment=self.environment,
        )
        assert (result.returncode, result.stdout) == (1, "")
        [line] = result.stderr.splitlines()
        return line.removeprefix("muai: ")

    def _run(self, asked: Asked, *arguments: str) -> str:
        result = run_cli(
            *arguments,
            *self._arguments(asked),
            directory=self.directory,
            environment=self.environment,
        )
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout

    def _arguments(self, asked: Asked, more: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        port = 0 if more else self.port
        own = {**self.config, "monitoring": {"server": {"port": port}}}
        if more:
            own["workflows"] = {**own.get("workflows", {}), **more["workflows"]}
        path = self.directory / f"{asked.workflow}-{port}.yaml"
        path.write_text(json.dumps(own))
        bound = () if asked.max_tokens is None else ("--max-tokens", str(asked.max_tokens))
        return (
            *("--config", str(path), "--workflow", asked.workflow, "--temperature", "0"),
            *bound,
            asked.question,
        )


def _query(asked: Asked, **fields: Any) -> dict[str, Any]:
    return {
        "query": asked.question,
        "workflow_type": asked.workflow,
        "preferences": asked.preferences,
        **fields,
    }


def _model(asked: Asked) -> str:
    return f"workflow/{asked.workflow}"


def _messages(asked: Asked) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": asked.question}]

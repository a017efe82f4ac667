"""A client of a running server: finds it, asks for its status, streams answers."""

from __future__ import annotations

import contextlib
import http
import http.client
import json
import time
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from mm_orch.cli.events import read_events
from mm_orch.cli.form import write_form
from mm_orch.core.errors import (
    AuthenticationError,
    MuAIError,
    NoServerError,
    WorkflowNotFoundError,
    clause,
)
from mm_orch.core.figures import Figures
from mm_orch.core.generation import Usage
from mm_orch.core.routing import NOTHING_CHOSEN, Routing
from mm_orch.orchestration.reports import HealthReport, StatusReport

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from mm_orch.cli.wishes import Wishes
    from mm_orch.config import Config
    from mm_orch.muai import Answer

# On this machine a server that lives answers within milliseconds, however loaded.
_FIND_TIMEOUT_S = 1.0
_STATUS_TIMEOUT_S = 5.0
# Beyond the server's own limit, so that its answer tells what happened.
_EXTRA_TIMEOUT_S = 15.0
_REACHABLE_BY_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
_END = "[DONE]"
_ANSWER = "the answer"
_ASK_AGAIN = "Ask again; its log says what happened."
_RENEW = "Start it again with this version."


class _Named(msgspec.Struct):
    name: str


class _FailedStep(msgspec.Struct):
    step: str
    message: str


class _Workflows(msgspec.Struct):
    workflows: tuple[_Named, ...] = ()


class StoredFile(msgspec.Struct, frozen=True):
    """A document as it is stored now.

    Attributes:
        status: stored, replaced or known.
        note: what there is to know of it; None for nothing.
    """

    document_id: str
    chunks_count: int
    status: str
    note: str | None = None


_Report = TypeVar("_Report", StatusReport, Figures, _Workflows)


def find_server(config: Config) -> RunningServer | None:
    """Return the server at the configured address; None when nothing there is ours."""
    server = locate_server(config)
    return server if server is not None and server.is_ours() else None


def locate_server(config: Config) -> RunningServer | None:
    """Return the configured address, whatever is there; None when it is not known."""
    server = config.monitoring.server
    if server.port == 0:
        # It took a free port, which nobody wrote down.
        return None
    host = _REACHABLE_BY_ANY.get(server.host, server.host)
    keys = [key.key.get_secret_value() for key in config.api.api_keys]
    return RunningServer(
        host,
        server.port,
        keys[0] if keys else None,
        timeout_s=config.api.request_timeout_s,
        health_path=server.health_check_path,
    )


class RunningServer:
    """A server's address and the key that opens it.

    Args:
        timeout_s: longest silence in an answer.
        health_path: where it gives its health report.
    """

    def __init__(
        self,
        host: str,
        port: int,
        key: str | None,
        *,
        timeout_s: float,
        health_path: str = "/health",
    ) -> None:
        self._host = host
        self._port = port
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout_s = timeout_s
        self._health_path = health_path

    @property
    def place(self) -> str:
        """The server's URL."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def is_ours(self) -> bool:
        """Whether something listens and gives a health report of this product."""
        try:
            # Whatever listens there: it is not shown the key before it has said what it is.
            with self._ask(
                "GET", self._health_path, timeout_s=_FIND_TIMEOUT_S, key=False
            ) as response:
                msgspec.json.decode(response.read(), type=HealthReport)
        except (OSError, http.client.HTTPException, msgspec.MsgspecError):
            return False
        return True

    def status(self) -> StatusReport:
        """Ask for everything known about engines, models and load.

        Raises:
            AuthenticationError: the server wants another key.
            NoServerError: it went away, cannot tell now, or is of another version.
        """
        report = self._read("/api/status", StatusReport)
        if report is None:
            raise self._gives_no_status("it does not know /api/status", _RENEW)
        return report

    def figures(self, after: float | None = None) -> Figures | None:
        """Ask for the measured windows; None where nothing is observed.

        Args:
            after: only points of the history after this moment, in seconds since 1970.

        Raises:
            AuthenticationError, NoServerError: as for the status.
        """
        path = "/api/metrics" if after is None else f"/api/metrics?after={after}"
        return self._read(path, Figures)

    def workflows(self) -> Sequence[str]:
        """Ask which workflows it has; none where it knows of no such thing.

        Raises:
            AuthenticationError, NoServerError: as for the status.
        """
        listed = self._read("/api/workflows", _Workflows)
        return [one.name for one in listed.workflows] if listed else ()

    def reply(self, turns: Sequence[Mapping[str, str]], wishes: Wishes) -> RemoteReply:
        """Begin an answer; nothing is sent before it is iterated."""
        body = {
            "messages": [dict(turn) for turn in turns],
            "stream": True,
            "stream_options": {"include_usage": True},
            "model": wishes.asked_model,
            "max_tokens": wishes.max_tokens,
            "temperature": wishes.temperature,
        }
        return RemoteReply(self, {k: v for k, v in body.items() if v is not None})

    def upload(self, name: str, content: bytes) -> StoredFile:
        """Have a file stored as a document of the key that is used.

        Raises:
            MuAIError: it is refused; says why.
            NoServerError: the connection failed.
        """
        form, content_type = write_form(name, content)
        timeout_s = self._timeout_s + _EXTRA_TIMEOUT_S
        try:
            with self._send(
                "POST", "/api/rag/upload", form, content_type, timeout_s=timeout_s
            ) as response:
                _check(response)
                return msgspec.json.decode(response.read(), type=StoredFile)
        except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
            raise _cut(self.place, "the upload", _name(error)) from error

    def _read(self, path: str, shape: type[_Report]) -> _Report | None:
        """Return a report; None where the server does not give it."""
        try:
            with self._ask("GET", path, timeout_s=_STATUS_TIMEOUT_S) as response:
                body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._gives_no_status(_name(error), _ASK_AGAIN) from error
        if response.status in (401, 403):
            raise AuthenticationError(
                f"The server at {self.place} refuses the key.",
                remedy="Set api.api_keys, or MUAI_API_KEY, to a key of that server.",
            )
        if response.status == http.HTTPStatus.NOT_FOUND:
            return None
        if response.status != http.HTTPStatus.OK:
            raise self._gives_no_status(clause(_refusal_of(response, body)), None)
        try:
            return msgspec.json.decode(body, type=shape)
        except msgspec.MsgspecError as error:
            raise self._gives_no_status(clause(error), _RENEW) from error

    def _gives_no_status(self, reason: str, remedy: str | None) -> NoServerError:
        return NoServerError(
            f"The server at {self.place} gives no status: {reason}.", remedy=remedy
        )

    @contextlib.contextmanager
    def open_stream(self, body: object) -> Iterator[http.client.HTTPResponse]:
        """Send a chat request; leaving the context closes the connection, which cancels it.

        Raises:
            NoServerError: the connection failed; also for reading in the context.
        """
        timeout_s = self._timeout_s + _EXTRA_TIMEOUT_S
        try:
            with self._ask("POST", "/v1/chat/completions", body, timeout_s=timeout_s) as response:
                yield response
        except (OSError, http.client.HTTPException) as error:
            raise _cut(self.place, _ANSWER, _name(error)) from error

    def _ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        timeout_s: float,
        key: bool = True,
    ) -> contextlib.AbstractContextManager[http.client.HTTPResponse]:
        data = None if body is None else json.dumps(body).encode()
        return self._send(method, path, data, "application/json", timeout_s=timeout_s, key=key)

    @contextlib.contextmanager
    def _send(
        self,
        method: str,
        path: str,
        data: bytes | None,
        content_type: str,
        *,
        timeout_s: float,
        key: bool = True,
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_FIND_TIMEOUT_S)
        with contextlib.closing(connection):
            connection.connect()
            connection.sock.settimeout(timeout_s)
            headers = {"Content-Type": content_type, **(self._headers if key else {})}
            connection.request(method, path, data, headers)
            yield connection.getresponse()


class RemoteReply:
    """One answer of a server; implements answers.Reply."""

    def __init__(self, server: RunningServer, body: Mapping[str, object]) -> None:
        self._server = server
        self._body = body
        self._answer: Answer | None = None

    @property
    def answer(self) -> Answer:
        """The whole answer, once iteration has ended."""
        if self._answer is None:
            raise MuAIError("The answer is not complete yet.", remedy="Iterate to the end first.")
        return self._answer

    def __iter__(self) -> Generator[str]:
        begin_s = time.monotonic()
        ttft_s: float | None = None
        pieces: list[str] = []
        summary = _Summary()
        with self._server.open_stream(self._body) as response:
            _check(response)
            for chunk in _chunks(response, self._server.place):
                text = summary.take(chunk)
                if text:
                    ttft_s = ttft_s or time.monotonic() - begin_s
                    pieces.append(text)
                    yield text
            engine = response.headers.get("X-MuAI-Engine", "")
        total_s = time.monotonic() - begin_s
        from mm_orch.muai import Answer

        self._answer = Answer(
            text="".join(pieces),
            model=response.headers.get("X-MuAI-Model", summary.model),
            engine=engine,
            finish_reason=summary.finish_reason,
            usage=summary.usage,
            ttft_s=ttft_s or total_s,
            total_s=total_s,
            routing=summary.routing,
            lacking=summary.lacking,
        )


class _Summary:
    """What the chunks of a stream say besides text."""

    def __init__(self) -> None:
        self.model = ""
        self.finish_reason = ""
        self.usage = Usage(num_prompt_tokens=0, num_generated_tokens=0)
        self.routing = NOTHING_CHOSEN
        self.lacking: tuple[str, ...] = ()

    def take(self, chunk: dict[str, Any]) -> str:
        """Note a chunk; return its text."""
        self.model = chunk.get("model") or self.model
        usage = chunk.get("usage")
        if usage:
            details = usage.get("prompt_tokens_details") or {}
            self.usage = Usage(
                num_prompt_tokens=usage["prompt_tokens"],
                num_generated_tokens=usage["completion_tokens"],
                num_cached_tokens=details.get("cached_tokens") or 0,
            )
        note = chunk.get("muai") or {}
        # A server of another version may say it otherwise; the answer is the same.
        with contextlib.suppress(msgspec.ValidationError):
            if failed := note.get("failed_steps"):
                steps = msgspec.convert(failed, list[_FailedStep])
                self.lacking = tuple(f"{one.step}: {one.message}" for one in steps)
            if routing := note.get("routing"):
                self.routing = msgspec.convert(routing, Routing)
        choices = chunk.get("choices")
        if not choices:
            return ""
        self.finish_reason = choices[0].get("finish_reason") or self.finish_reason
        return choices[0].get("delta", {}).get("content") or ""


def _check(response: http.client.HTTPResponse) -> None:
    if response.status != http.HTTPStatus.OK:
        raise _refusal_of(response, response.read())


def _chunks(response: http.client.HTTPResponse, place: str) -> Iterator[dict[str, Any]]:
    for data in read_events(response):
        if data == _END:
            return
        try:
            chunk: dict[str, Any] = json.loads(data)
        except ValueError as error:
            raise _cut(place, _ANSWER, "a part of it is no JSON") from error
        if "error" in chunk:
            raise _error_of(data.encode(), fallback=data)
        yield chunk
    raise _cut(place, _ANSWER, "the stream ended early")


def _cut(place: str, what: str, reason: str) -> NoServerError:
    return NoServerError(f"The server at {place} broke off {what}: {reason}.", remedy=_ASK_AGAIN)


def _name(error: Exception) -> str:
    return clause(error) or type(error).__name__


def _refusal_of(response: http.client.HTTPResponse, body: bytes) -> MuAIError:
    return _error_of(body, fallback=f"{response.status} {response.reason}")


def _error_of(body: bytes, *, fallback: str) -> MuAIError:
    """Read OpenAI's error envelope; what is none is shown as it is."""
    try:
        error = json.loads(body)["error"]
        message, code = error["message"], error.get("code")
    except (ValueError, KeyError, TypeError, AttributeError):
        message, code = fallback, None
    kind = WorkflowNotFoundError if code == WorkflowNotFoundError.code else MuAIError
    return kind(str(message))

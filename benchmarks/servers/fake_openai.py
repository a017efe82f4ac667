"""A fake model server in OpenAI's words, for measuring what stands in front of it.

usage: python -m benchmarks.servers.fake_openai PORT INTERVAL_MS

It computes nothing. A chat gets as many equal pieces as it asks for tokens: streamed, the first at
once and the others at a fixed interval; whole, when the last would have come.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from typing import TYPE_CHECKING, Any, cast

import httptools
import msgspec
import uvloop

if TYPE_CHECKING:
    from collections.abc import Sequence

MODEL = "fake-model"
PIECE = "word "
_HOST = "127.0.0.1"
_MS = 0.001
_DEFAULT_TOKENS = 16
_JSON = b"application/json"
_CHAT_PATHS = {b"/v1/chat/completions", b"/chat/completions"}
_MODELS_PATHS = {b"/v1/models", b"/models"}
_IDENTITY = {"id": "chatcmpl-fake", "created": 1, "model": MODEL}


class Answer:
    """The bytes of every answer, made once: what is sent costs nothing to make."""

    def __init__(self, num_pieces: int) -> None:
        usage = {
            "prompt_tokens": num_pieces,
            "completion_tokens": num_pieces,
            "total_tokens": 2 * num_pieces,
        }
        message = {"role": "assistant", "content": PIECE * num_pieces}
        whole = {"index": 0, "message": message, "finish_reason": "length"}
        self.whole = _response(
            _JSON,
            _dump(_IDENTITY | {"object": "chat.completion", "choices": [whole], "usage": usage}),
        )
        self.head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        first = {"role": "assistant", "content": PIECE}
        self.pieces = [
            _event(_delta(first if number == 0 else {"content": PIECE}))
            for number in range(num_pieces)
        ]
        told = _event(_chunk([], usage))
        self._end = _event(_delta({}, finish_reason="length"))
        self._close = _part(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        self._usage = told

    def end(self, *, wants_usage: bool) -> bytes:
        """Return what follows the last piece."""
        return self._end + (self._usage if wants_usage else b"") + self._close


class FakeServer(asyncio.Protocol):
    """One connection; its methods named ``on_...`` are called by the parser."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are not of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's own
        """Send nothing more."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Read."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # A client that offers HTTP/2 is answered in HTTP/1.1, as servers may.
            return
        except httptools.HttpParserError:
            self._send(_response(_JSON, b"{}", b"400 Bad Request"))

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        """Collect the path."""
        self._url += url

    def on_body(self, data: bytes) -> None:
        """Collect the body."""
        self._body += data

    def on_message_complete(self) -> None:
        """Answer."""
        path = self._url.partition(b"?")[0]
        if path in _CHAT_PATHS:
            self._answer_chat()
        elif path in _MODELS_PATHS:
            one = {"id": MODEL, "object": "model", "created": 1, "owned_by": "nobody"}
            self._send(_response(_JSON, _dump({"object": "list", "data": [one]})))
        elif path == b"/health":
            self._send(_response(_JSON, b"{}"))
        else:
            self._send(_response(_JSON, b"{}", b"404 Not Found"))

    def _answer_chat(self) -> None:
        asked = msgspec.json.decode(self._body)
        answer = _answer_of(int(asked.get("max_tokens") or _DEFAULT_TOKENS))
        begin_s = self._loop.time()
        last_s = begin_s + (len(answer.pieces) - 1) * self._interval_s
        if not asked.get("stream"):
            self._loop.call_at(last_s, self._send, answer.whole)
            return
        wants_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        end = answer.end(wants_usage=wants_usage)
        first, *others = answer.pieces
        self._send(answer.head + first + (b"" if others else end))
        for number, piece in enumerate(others, start=1):
            data = piece if number < len(others) else piece + end
            self._loop.call_at(begin_s + number * self._interval_s, self._send, data)

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def main(arguments: Sequence[str]) -> None:
    """Serve until the process is ended."""
    port, interval_ms = arguments
    uvloop.run(_serve(int(port), float(interval_ms) * _MS))


async def _serve(port: int, interval_s: float) -> None:
    server = await start(port, interval_s=interval_s)
    await server.serve_forever()


async def start(port: int, *, interval_s: float) -> asyncio.Server:
    """Listen."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: FakeServer(interval_s), _HOST, port)


@functools.cache
def _answer_of(num_pieces: int) -> Answer:
    return Answer(num_pieces)


def _chunk(choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> dict[str, Any]:
    chunk = _IDENTITY | {"object": "chat.completion.chunk", "choices": choices}
    return chunk | ({"usage": usage} if usage else {})


def _delta(delta: dict[str, str], *, finish_reason: str | None = None) -> dict[str, Any]:
    return _chunk([{"index": 0, "delta": delta, "finish_reason": finish_reason}])


def _event(content: dict[str, Any]) -> bytes:
    return _part(b"data: " + _dump(content) + b"\n\n")


def _part(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _response(content_type: bytes, body: bytes, status: bytes = b"200 OK") -> bytes:
    length = str(len(body)).encode()
    return (
        b"HTTP/1.1 "
        + status
        + b"\r\nContent-Type: "
        + content_type
        + b"\r\nContent-Length: "
        + length
        + b"\r\n\r\n"
        + body
    )


def _dump(content: dict[str, Any]) -> bytes:
    return msgspec.json.encode(content)


if __name__ == "__main__":
    main(sys.argv[1:])

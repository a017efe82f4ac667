"""The way to another server, against servers over real sockets."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from mm_orch.remote.channel import (
    BrokenChannelError,
    Channel,
    SilentChannelError,
    read_lines,
    read_whole,
)
from tests.unit.benchmarking.peer import STREAM_HEAD, Peer, chunk, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STREAM = STREAM_HEAD + chunk(b"one\n") + chunk(b"two\n") + chunk(b"")
UNENDED = STREAM_HEAD + chunk(b"one\n")


def make(peer: Peer) -> Channel:
    return Channel(f"{peer.target.url}/v1", {"Authorization": "Bearer k"}, connect_s=5.0)


@asynccontextmanager
async def connected(peer: Peer) -> AsyncIterator[Channel]:
    async with serving(peer) as there:
        channel = make(there)
        try:
            yield channel
        finally:
            await channel.aclose()


async def ask(channel: Channel, body: bytes = b"{}", silence_s: float = 30.0) -> bytes:
    reply = await channel.ask("POST", "/x", body, silence_s=silence_s)
    try:
        return await read_whole(reply)
    finally:
        await reply.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        STREAM,
        b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\none\ntwo\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + STREAM,
    ],
)
async def test_a_body_comes_whole_and_its_connection_is_used_again(answer: bytes) -> None:
    peer = Peer(answer=lambda _: answer)
    async with connected(peer) as channel:
        assert [await ask(channel) for _ in range(3)] == [b"one\ntwo\n"] * 3

    assert peer.num_connections == 1
    assert peer.heads[0].startswith("POST /v1/x HTTP/1.1\r\n")
    assert "authorization: bearer k\r\n" in peer.heads[0].lower()


async def test_a_body_of_no_stated_length_ends_with_its_connection() -> None:
    peer = Peer(answer=lambda _: b"HTTP/1.1 200 OK\r\n\r\nall", max_requests=1)
    async with connected(peer) as channel:
        assert [await ask(channel), await ask(channel)] == [b"all", b"all"]

    assert peer.num_connections == 2


async def test_a_connection_that_the_server_closed_meanwhile_is_no_fault() -> None:
    peer = Peer(answer=lambda _: STREAM, max_requests=1)
    async with connected(peer) as channel:
        assert [await ask(channel) for _ in range(3)] == [b"one\ntwo\n"] * 3


async def test_status_and_the_time_to_wait_are_told() -> None:
    head = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
    async with connected(Peer(answer=lambda _: head)) as channel:
        reply = await channel.ask("GET", "/models", b"", silence_s=30.0)
        assert (reply.status, reply.retry_after) == (503, "7")
        await reply.aclose()


async def test_a_reply_that_is_left_early_takes_its_connection_with_it() -> None:
    peer = Peer(answer=lambda _: UNENDED)
    async with connected(peer) as channel:
        for _ in range(2):
            reply = await channel.ask("POST", "/x", b"{}", silence_s=30.0)
            assert await anext(reply.pieces()) == b"one\n"
            await reply.aclose()

    assert peer.num_connections == 2


async def test_a_reply_that_breaks_off_gives_what_came_and_an_error() -> None:
    async with connected(Peer(answer=lambda _: UNENDED, max_requests=1)) as channel:
        reply = await channel.ask("POST", "/x", b"{}", silence_s=30.0)
        pieces = reply.pieces()
        assert await anext(pieces) == b"one\n"
        with pytest.raises(BrokenChannelError):
            await anext(pieces)
        await reply.aclose()


@pytest.mark.parametrize("answer", [b"", UNENDED])
async def test_silence_is_given_up(answer: bytes) -> None:
    async with connected(Peer(answer=lambda _: answer)) as channel:
        with pytest.raises(SilentChannelError):
            await ask(channel, silence_s=0.05)


@pytest.mark.parametrize("answer", [b"SSH-2.0-server\r\n\r\n", b""])
async def test_what_is_no_http_is_a_broken_connection(answer: bytes) -> None:
    async with connected(Peer(answer=lambda _: answer, max_requests=1)) as channel:
        with pytest.raises(BrokenChannelError):
            await ask(channel)


async def test_nobody_there_is_a_broken_connection() -> None:
    async with serving(Peer()) as gone:
        channel = make(gone)
    with pytest.raises(BrokenChannelError):
        await ask(channel)
    await channel.aclose()


async def test_a_finished_reply_keeps_its_connection_once_the_rest_has_come() -> None:
    peer = Peer(answer=lambda _: STREAM)
    async with connected(peer) as channel:
        for _ in range(2):
            reply = await channel.ask("POST", "/x", b"{}", silence_s=30.0)
            assert (await anext(reply.pieces())).startswith(b"one\n")
            reply.finish()
            await reply.aclose()

    assert peer.num_connections == 1


async def test_a_finished_reply_that_does_not_end_takes_its_connection_with_it() -> None:
    peer = Peer(answer=lambda _: UNENDED)
    async with connected(peer) as channel:
        for _ in range(2):
            reply = await channel.ask("POST", "/x", b"{}", silence_s=30.0)
            assert await anext(reply.pieces()) == b"one\n"
            reply.finish()
            await reply.aclose()

    assert peer.num_connections == 2


async def test_lines_end_at_line_feeds_alone() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield 'data: "a\u2028b'.encode()
        yield b'"\r\n\nda'
        yield b"ta: 2"

    lines = [line async for line in read_lines(pieces())]

    assert lines == ['data: "a\u2028b"\r'.encode(), b"", b"data: 2"]


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    async with serving(Peer(answer=lambda _: STREAM)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.target.url)
        channel = Channel("http://far.invalid/v1", {}, connect_s=5.0)
        assert await ask(channel) == b"one\ntwo\n"
        await channel.aclose()

    assert proxy.heads[0].startswith("POST http://far.invalid/v1/x HTTP/1.1\r\n")

"""Both ways to another server, against servers over real sockets."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from mm_orch.remote import plain, server
from mm_orch.remote.channel import (
    BrokenChannelError,
    SilentChannelError,
    read_lines,
    read_whole,
)
from mm_orch.remote.library import LibraryChannel
from mm_orch.remote.plain import PlainChannel, PlainConnection
from tests.unit.benchmarking.peer import STREAM_HEAD, Peer, chunk, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mm_orch.remote.channel import Channel

    MakeChannel = Callable[[Peer], Channel]

STREAM = STREAM_HEAD + chunk(b"one\n") + chunk(b"two\n") + chunk(b"")
UNENDED = STREAM_HEAD + chunk(b"one\n")


@pytest.fixture(params=[PlainChannel, LibraryChannel])
def make(request: pytest.FixtureRequest) -> MakeChannel:
    def make_one(peer: Peer) -> Channel:
        headers = {"Authorization": "Bearer k"}
        channel: Channel = request.param(f"{peer.target.url}/v1", headers, connect_s=5.0)
        return channel

    return make_one


@asynccontextmanager
async def connected(make: MakeChannel, peer: Peer) -> AsyncIterator[Channel]:
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
async def test_a_body_comes_whole_and_its_connection_is_used_again(
    make: MakeChannel, answer: bytes
) -> None:
    peer = Peer(answer=lambda _: answer)
    async with connected(make, peer) as channel:
        assert [await ask(channel) for _ in range(3)] == [b"one\ntwo\n"] * 3

    assert peer.num_connections == 1
    assert peer.heads[0].startswith("POST /v1/x HTTP/1.1\r\n")
    assert "authorization: bearer k\r\n" in peer.heads[0].lower()


async def test_a_body_of_no_stated_length_ends_with_its_connection(make: MakeChannel) -> None:
    peer = Peer(answer=lambda _: b"HTTP/1.1 200 OK\r\n\r\nall", max_requests=1)
    async with connected(make, peer) as channel:
        assert [await ask(channel), await ask(channel)] == [b"all", b"all"]

    assert peer.num_connections == 2


async def test_a_connection_that_the_server_closed_meanwhile_is_no_fault(
    make: MakeChannel,
) -> None:
    peer = Peer(answer=lambda _: STREAM, max_requests=1)
    async with connected(make, peer) as channel:
        assert [await ask(channel) for _ in range(3)] == [b"one\ntwo\n"] * 3


async def test_status_and_the_time_to_wait_are_told(make: MakeChannel) -> None:
    head = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
    async with connected(make, Peer(answer=lambda _: head)) as channel:
        reply = await channel.ask("GET", "/models", b"", silence_s=30.0)
        assert (reply.status, reply.retry_after) == (503, "7")
        await reply.aclose()


async def test_a_reply_that_is_left_early_takes_its_connection_with_it(make: MakeChannel) -> None:
    peer = Peer(answer=lambda _: UNENDED)
    async with connected(make, peer) as channel:
        for _ in range(2):
            reply = await channel.ask("POST", "/x", b"{}", silence_s=30.0)
            assert await anext(reply.pieces()) == b"one\n"
            await reply.aclose()

    assert peer.num_connections == 2


async def test_a_reply_that_breaks_off_gives_what_came_and_an_error(make: MakeChannel) -> None:
    async with connected(make, Peer(answer=lambda _: UNENDED, max_requests=1)) as channel:
        reply = await channel.ask("POST", "/x", b"{}", silence_s=30.0)
        pieces = reply.pieces()
        assert await anext(pieces) == b"one\n"
        with pytest.raises(BrokenChannelError):
            await anext(pieces)
        await reply.aclose()


@pytest.mark.parametrize("answer", [b"", UNENDED])
async def test_silence_is_given_up(make: MakeChannel, answer: bytes) -> None:
    async with connected(make, Peer(answer=lambda _: answer)) as channel:
        with pytest.raises(SilentChannelError):
            await ask(channel, silence_s=0.05)


@pytest.mark.parametrize("answer", [b"SSH-2.0-server\r\n\r\n", b""])
async def test_what_is_no_http_is_a_broken_connection(make: MakeChannel, answer: bytes) -> None:
    async with connected(make, Peer(answer=lambda _: answer, max_requests=1)) as channel:
        with pytest.raises(BrokenChannelError):
            await ask(channel)


async def test_nobody_there_is_a_broken_connection(make: MakeChannel) -> None:
    async with serving(Peer()) as gone:
        channel = make(gone)
    with pytest.raises(BrokenChannelError):
        await ask(channel)
    await channel.aclose()


async def test_a_finished_reply_frees_its_connection_once_the_rest_has_come() -> None:
    may_end, has_ended = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"?")
        writer.write(UNENDED)
        await may_end.wait()
        writer.write(chunk(b"more") + chunk(b""))
        await reader.read()
        writer.close()
        has_ended.set()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = listening.sockets[0].getsockname()
    loop = asyncio.get_running_loop()
    kept: asyncio.Future[PlainConnection] = loop.create_future()
    _, reply = await loop.create_connection(lambda: PlainConnection(kept.set_result), *address)
    await reply.exchange(b"?", 30.0)
    assert await anext(reply.pieces()) == b"one\n"

    reply.finish()
    await reply.aclose()
    assert not kept.done()
    may_end.set()

    assert await kept is reply
    reply.close()
    await has_ended.wait()
    listening.close()
    await listening.wait_closed()


async def test_a_slow_reader_holds_the_server_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "_MAX_HELD_BYTES", 1000)
    body = b"x" * (1 << 22)
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    async with serving(Peer(answer=lambda _: answer)) as there:
        channel = PlainChannel(there.target.url, {}, connect_s=5.0)
        reply = await channel.ask("POST", "/x", b"{}", silence_s=30.0)
        lengths = []
        async for piece in reply.pieces():
            lengths.append(len(piece))
            for _ in range(20):
                await asyncio.sleep(0)
        await reply.aclose()
        await channel.aclose()

    assert sum(lengths) == len(body)
    # What one read of the socket brings, at most.
    assert max(lengths) <= 1 << 18


async def test_lines_end_at_line_feeds_alone() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield 'data: "a\u2028b'.encode()
        yield b'"\r\n\nda'
        yield b"ta: 2"

    lines = [line async for line in read_lines(pieces())]

    assert lines == ['data: "a\u2028b"\r'.encode(), b"", b"data: 2"]


@pytest.mark.parametrize(
    ("base", "proxy", "kind"),
    [
        ("http://host:8000/v1", "", PlainChannel),
        ("https://host/v1", "", LibraryChannel),
        ("http://name:word@host/v1", "", LibraryChannel),
        ("http://host:8000/v1", "http://proxy:3128", LibraryChannel),
    ],
)
async def test_the_library_takes_what_the_plain_way_cannot(
    monkeypatch: pytest.MonkeyPatch, base: str, proxy: str, kind: type
) -> None:
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    if proxy:
        monkeypatch.setenv("http_proxy", proxy)

    channel = server._open_channel(base, {})

    assert isinstance(channel, kind)
    await channel.aclose()

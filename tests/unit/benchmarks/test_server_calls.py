"""Calls to a server's plain paths, which may go wrong."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.server_calls import call, change_options, workers_of
from tests.unit.benchmarking.peer import Peer, serving


def reply(status: str, body: bytes) -> Peer:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return Peer(answer=lambda _: head + body)


async def test_workers_are_known_by_their_numbers() -> None:
    models = b'{"models": [{"name": "a", "worker_pid": 7}, {"name": "b", "worker_pid": null}]}'
    async with serving(reply("200 OK", models)) as peer:
        assert await asyncio.to_thread(workers_of, peer.target.port) == {7: "a"}


async def test_a_change_that_is_refused_says_why() -> None:
    async with serving(reply("400 Bad Request", b"no such option")) as peer:
        with pytest.raises(RuntimeError, match="no such option"):
            await asyncio.to_thread(change_options, peer.target.port, {"a.b": 1})

    assert peer.bodies == [{"a.b": 1}]
    assert peer.heads[0].startswith("PATCH /admin/config ")


@pytest.mark.parametrize("peer", [reply("500 Oh", b"{}"), Peer(answer=lambda _: b"hello\r\n\r\n")])
async def test_a_server_that_does_not_say_is_one_that_does_not_answer(peer: Peer) -> None:
    async with serving(peer):
        with pytest.raises(ConnectionError, match="was answered with"):
            await asyncio.to_thread(workers_of, peer.target.port)


async def test_an_answer_is_read_whatever_its_status() -> None:
    async with serving(reply("404 Not Found", b'{"a": 1}')) as peer:
        found = await asyncio.to_thread(call, peer.target.port, "GET", "/x")

    assert (found.status, found.json) == (404, {"a": 1})

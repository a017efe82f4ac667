"""The connection of server and worker, as a file and as a port that strangers reach too."""

from __future__ import annotations

import asyncio
import socket as sockets
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import zmq.asyncio

from mm_orch.core.errors import EngineStartError
from mm_orch.workers.connection import bind, connect
from mm_orch.workers.placement import Placement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mm_orch.workers.connection import ServerEnd

ELSEWHERE = Placement(cluster="", host="127.0.0.1", num_cpus=1, num_gpus=0, timeout_s=1)
# Long enough for an honest message on a busy machine; where none may come, how long one is awaited.
PATIENCE_S, SILENCE_S = 20, 0.5


class Server:
    """The server's end."""

    def __init__(self, socket: zmq.asyncio.Socket, placement: Placement | None) -> None:
        self.socket = socket
        self.end: ServerEnd = bind(socket, placement)

    async def receive(self) -> bytes:
        return await asyncio.wait_for(self.socket.recv(), PATIENCE_S)

    async def is_silent(self) -> bool:
        return not await self.socket.poll(SILENCE_S * 1000)


class Ends:
    """Makes both ends, and closes them."""

    def __init__(self) -> None:
        self._context = zmq.asyncio.Context()
        self._sockets: list[zmq.asyncio.Socket] = []
        self._servers: list[Server] = []

    def serve(self, placement: Placement | None) -> Server:
        self._servers.append(Server(self._make_socket(), placement))
        return self._servers[-1]

    def connect(self, server: Server, key: str | None = None) -> zmq.asyncio.Socket:
        socket = self._make_socket()
        connect(socket, server.end.address, server.end.key if key is None else key)
        return socket

    async def attach(self, server: Server) -> zmq.asyncio.Socket:
        worker = self.connect(server)
        await worker.send(b"ready")
        assert await server.receive() == b"ready"
        server.end.hide()
        return worker

    def close(self) -> None:
        for server in self._servers:
            server.end.close()
        for socket in self._sockets:
            socket.close(linger=0)
        self._context.term()

    def _make_socket(self) -> zmq.asyncio.Socket:
        self._sockets.append(self._context.socket(zmq.PAIR))
        return self._sockets[-1]


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    ends = Ends()
    yield ends
    ends.close()


@pytest.mark.parametrize("placement", [None, ELSEWHERE], ids=["file", "port"])
async def test_messages_go_both_ways(placement: Placement | None, ends: Ends) -> None:
    server = ends.serve(placement)
    worker = await ends.attach(server)

    await server.socket.send(b"work")

    assert await asyncio.wait_for(worker.recv(), PATIENCE_S) == b"work"


async def test_no_file_stays_once_both_ends_are_there(ends: Ends) -> None:
    server = ends.serve(None)

    await ends.attach(server)

    folder = Path(server.end.address.removeprefix("ipc://")).parent
    assert not await asyncio.to_thread(folder.exists)


@pytest.mark.parametrize("key", ["", zmq.curve_keypair()[0].decode()], ids=["none", "another"])
async def test_who_does_not_know_the_key_is_not_heard(key: str, ends: Ends) -> None:
    server = ends.serve(ELSEWHERE)
    ends.connect(server, key).send(b"ready")

    assert await server.is_silent()
    # Nor is the place taken.
    await ends.attach(server)


async def test_a_host_that_is_none_of_this_machine_is_refused_with_what_to_set(ends: Ends) -> None:
    elsewhere = msgspec.structs.replace(ELSEWHERE, host="192.0.2.254")

    with pytest.raises(EngineStartError, match=r"192\.0\.2\.254.*cluster\.host"):
        ends.serve(elsewhere)


async def test_no_two_workers_have_the_same_key(ends: Ends) -> None:
    assert ends.serve(ELSEWHERE).end.key != ends.serve(ELSEWHERE).end.key


async def test_a_lost_connection_is_told(ends: Ends) -> None:
    server = ends.serve(ELSEWHERE)
    lost = asyncio.ensure_future(server.end.wait_until_lost())
    worker = await ends.attach(server)
    assert not lost.done()

    worker.close(linger=0)

    await asyncio.wait_for(lost, PATIENCE_S)


async def test_a_stranger_that_leaves_is_no_loss(ends: Ends) -> None:
    server = ends.serve(ELSEWHERE)
    host, _, port = server.end.address.removeprefix("tcp://").rpartition(":")
    lost = asyncio.ensure_future(server.end.wait_until_lost())
    await ends.attach(server)

    sockets.create_connection((host, int(port))).close()

    await asyncio.wait({lost}, timeout=SILENCE_S)
    assert not lost.done()
    lost.cancel()
    await asyncio.gather(lost, return_exceptions=True)

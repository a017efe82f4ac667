"""The connection of server and worker: a file for a child, an encrypted port for other machines.

Whoever connects to the port must know a public key that was made for this one worker and told to it
alone. A connection that has ended is not made again: what was on its way is lost, and with a gap in
it a stream would go on wrongly.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import zmq
from zmq.utils.monitor import parse_monitor_message

from mm_orch.core.place_errors import NoPlaceError
from mm_orch.workers import messages

if TYPE_CHECKING:
    from zmq.asyncio import Socket

    from mm_orch.workers.placement import Placement

logger = logging.getLogger(__name__)

_FILE = "ipc://"
_HEARTBEAT_EVERY_MS = 2_000
# A machine that vanishes closes nothing; a long garbage collection is no reason to give one up.
_HEARTBEAT_TIMEOUT_MS = 10_000
_NO_RECONNECT = -1
# A stranger who says nothing is not waited for.
_HANDSHAKE_TIMEOUT_MS = 5_000
_EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED


class ServerEnd(Protocol):
    """What the server holds of the connection to one worker.

    Attributes:
        address: where the worker connects.
        key: what it must know to be let in; empty where nobody else can reach the address.
    """

    address: str
    key: str

    def hide(self) -> None:
        """Remove what is seen of it, once the worker is attached or none will come. Safe twice."""

    async def wait_until_lost(self) -> None:
        """Wait for the worker's connection to end; for ever where its process tells as much."""

    def close(self) -> None:
        """Free everything but the socket, which is the caller's. Safe twice."""


def bind(socket: Socket, placement: Placement | None) -> ServerEnd:
    """Bind the server's end for one worker, which runs where it says.

    Raises:
        NoPlaceError: the port cannot be had; the socket is closed then.
        zmq.ZMQError: the file cannot; so it is then.
    """
    # Sending must never wait. What we send is bounded by the requests admitted, and releases of
    # conversations are short.
    socket.sndhwm = 0
    socket.rcvhwm = messages.MAX_UNREAD_STEPS
    socket.linger = 0
    try:
        return _File(socket) if placement is None else _Port(socket, placement.host)
    except (NoPlaceError, zmq.ZMQError):
        socket.close()
        raise


def connect(socket: zmq.Socket[bytes], address: str, key: str) -> None:
    """Connect the worker's end."""
    # A full queue makes the step loop wait: an engine never runs far ahead of its server.
    socket.sndhwm = messages.MAX_UNREAD_STEPS
    if key:
        public, secret = zmq.curve_keypair()
        socket.curve_publickey, socket.curve_secretkey = public, secret
        socket.curve_serverkey = key.encode()
        _expect_heartbeats(socket)
    socket.connect(address)


def clean_up(address: str) -> None:
    """Remove what a server that was killed could not: its socket's folder."""
    if not address.startswith(_FILE):
        return
    path = Path(address.removeprefix(_FILE))
    path.unlink(missing_ok=True)
    try:
        path.parent.rmdir()
    except OSError as error:
        logger.debug("socket folder %s stays: %s", path.parent, error)


class _File:
    """In a folder that only this user may enter; the worker removes it if we cannot."""

    key = ""

    def __init__(self, socket: Socket) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="muai-"))
        self.address = f"{_FILE}{self._folder / 'worker'}"
        try:
            socket.bind(self.address)
        except zmq.ZMQError:
            self.hide()
            raise

    def hide(self) -> None:
        """Unlink the socket once both ends hold it, so that no kill can leave it behind."""
        shutil.rmtree(self._folder, ignore_errors=True)

    async def wait_until_lost(self) -> None:
        """The kernel tells of a child's end."""
        await asyncio.get_running_loop().create_future()

    def close(self) -> None:
        """Nothing but the folder is there to be freed."""
        self.hide()


class _Port:
    """A port of its own, behind a key of its own."""

    def __init__(self, socket: Socket, host: str) -> None:
        public, secret = zmq.curve_keypair()
        self.key = public.decode()
        socket.curve_server = True
        socket.curve_publickey, socket.curve_secretkey = public, secret
        socket.ipv6 = ":" in host
        socket.handshake_ivl = _HANDSHAKE_TIMEOUT_MS
        _expect_heartbeats(socket)
        self._socket = socket
        try:
            socket.bind(f"tcp://[{host}]:*" if ":" in host else f"tcp://{host}:*")
        except zmq.ZMQError as error:
            raise NoPlaceError(
                f"No port for a worker of the cluster can be had on {host}: {error}.",
                remedy="Set cluster.host to an address of this machine.",
            ) from error
        self._monitor = socket.get_monitor_socket(_EVENTS)
        self.address = str(socket.getsockopt_string(zmq.LAST_ENDPOINT)).rstrip("\0")

    def hide(self) -> None:
        """Keep it: who has no key stays outside, and to unbind a port ends its connections."""

    async def wait_until_lost(self) -> None:
        """Wait until the worker that was let in is connected no more."""
        connected: set[int] = set()
        is_attached = False
        while not is_attached or connected:
            event = parse_monitor_message(await self._monitor.recv_multipart())
            match event["event"]:
                case zmq.EVENT_ACCEPTED:
                    connected.add(event["value"])
                case zmq.EVENT_DISCONNECTED:
                    # Also of strangers who were not let in.
                    connected.discard(event["value"])
                case _:
                    is_attached = True

    def close(self) -> None:
        """Stop watching the port."""
        if not self._monitor.closed:
            self._socket.disable_monitor()
            self._monitor.close(linger=0)


def _expect_heartbeats(socket: zmq.Socket[bytes] | Socket) -> None:
    socket.heartbeat_ivl = _HEARTBEAT_EVERY_MS
    socket.heartbeat_timeout = _HEARTBEAT_TIMEOUT_MS
    socket.reconnect_ivl = _NO_RECONNECT

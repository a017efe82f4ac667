"""Keeps requests for pages away from everything that is not on the public internet.

a host is resolved      once; where one of its addresses is refused, all are
a socket is made        for an address of that answer alone, so that a name which changes its
                        address between the check and the connection (DNS rebinding) gains nothing
an address as a host    is never resolved, and is judged when its socket is made
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from aiohttp.abc import AbstractResolver, ResolveResult

from mm_orch.search.addresses import find_refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from aiohttp import AddrInfoType

    Resolve = Callable[[str], Awaitable[Sequence[str]]]

# That a connection is tried to, one after another; judged are all.
_MAX_TRIED = 4


class RefusedError(OSError):
    """The guard does not let a connection be made; an OSError for the library that makes it."""


class Guard(AbstractResolver):
    """Resolves one host and makes its sockets: one for each request, as a page may have several.

    Args:
        resolve: gives the addresses of a name.
        allowed_hosts: names and addresses that may be private, in small letters.
        allowed_ports: those that may be reached.

    Attributes:
        refusal: why no connection was made, as a clause; empty where nothing was refused.
    """

    def __init__(
        self,
        resolve: Resolve,
        *,
        allowed_hosts: frozenset[str],
        allowed_ports: Collection[int],
    ) -> None:
        self.refusal = ""
        self._resolve = resolve
        self._allowed_hosts = allowed_hosts
        self._allowed_ports = allowed_ports
        self._passed: set[str] = set()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the first addresses of a host, all of which may be reached; see aiohttp.

        Raises:
            RefusedError: one of them may not be.
            OSError: it has none.
        """
        addresses = list(dict.fromkeys(await self._resolve(host)))
        name = host.rstrip(".").lower()
        for address in addresses:
            if not {name, address} & self._allowed_hosts:
                self._check(address, f"{host} is at {address}")
        tried = addresses[:_MAX_TRIED]
        self._passed.update(tried)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in tried
            if family in {socket.AF_UNSPEC, socket.AF_INET6 if ":" in address else socket.AF_INET}
        ]

    async def close(self) -> None:
        """See aiohttp; nothing is kept."""

    def make_socket(self, address_info: AddrInfoType) -> socket.socket:
        """Return a socket for an address; see aiohttp's ``socket_factory``.

        Raises:
            RefusedError: the address may not be reached.
        """
        family, kind, protocol, _, place = address_info
        address, port = str(place[0]), int(place[1])
        if address not in self._passed and address not in self._allowed_hosts:
            self._check(address, f"its host is {address}")
        if port not in self._allowed_ports:
            self._refuse(f"port {port} is not allowed")
        return socket.socket(family, kind, protocol)

    def _check(self, address: str, what: str) -> None:
        if reason := find_refusal(address):
            self._refuse(
                f"{what}, which is refused ({reason}); workflows.search.allowed_private_hosts"
                " names hosts that may be private"
            )

    def _refuse(self, reason: str) -> None:
        self.refusal = reason
        raise RefusedError(reason)


async def resolve_by_system(host: str) -> list[str]:
    """Return the addresses of a name as this machine resolves it; raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(place[0]) for _, _, _, _, place in found]

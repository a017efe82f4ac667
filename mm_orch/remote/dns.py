"""Servers that DNS knows: the addresses of a headless Service, or what SRV records name."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import dns.asyncresolver
import dns.exception
import dns.resolver

from mm_orch.core.endpoints import Registry
from mm_orch.remote.discovery import Address, DiscoveryError

if TYPE_CHECKING:
    from mm_orch.core.endpoints import Endpoints

_QUESTION_S = 5.0


def make_resolver(server: str | None, port: int) -> dns.asyncresolver.Resolver:
    """Return what asks DNS.

    Args:
        server: IP address of the DNS server; None for those of the system.
        port: that it listens on.

    Raises:
        DiscoveryError: the system names no DNS server.
    """
    try:
        resolver = dns.asyncresolver.Resolver(configure=server is None)
    except dns.resolver.NoResolverConfiguration as error:
        raise DiscoveryError(f"{error}: set discovery.dns_server.") from error
    if server is not None:
        resolver.nameservers = [server]
        resolver.port = port
    # A name is asked for as a program on this machine would: with the domains of a pod.
    resolver.use_search_by_default = server is None
    resolver.lifetime = _QUESTION_S
    return resolver


class DnsFinder:
    """Implements remote.discovery.Finder.

    Args:
        endpoints: what to ask for.
        server: see :func:`make_resolver`; ``port`` too.
    """

    def __init__(self, endpoints: Endpoints, *, server: str | None, port: int) -> None:
        self.name = endpoints.text
        self._endpoints = endpoints
        self._server = server
        self._port = port

    async def find(self) -> frozenset[Address]:
        """See Finder."""
        # The system's servers may be others by now.
        resolver = make_resolver(self._server, self._port)
        if self._endpoints.registry is Registry.SRV:
            return await self._find_by_srv(resolver)
        return await self._find_by_address(resolver)

    async def wait(self, interval_s: float) -> None:
        """See Finder; DNS tells of nothing by itself."""
        await asyncio.sleep(interval_s)

    async def _find_by_address(self, resolver: dns.asyncresolver.Resolver) -> frozenset[Address]:
        host, port = self._endpoints.host, self._endpoints.port_number
        answers = [await _ask(resolver, host, kind) for kind in ("A", "AAAA")]
        return frozenset(
            self._address_of(str(record), port, host) for answer in answers for record in answer
        )

    async def _find_by_srv(self, resolver: dns.asyncresolver.Resolver) -> frozenset[Address]:
        records = await _ask(resolver, self._endpoints.host, "SRV")
        # A target of "." says that the service is not there (RFC 2782).
        named = [(record.target.to_text(omit_final_dot=True), record.port) for record in records]
        return frozenset(self._address_of(host, port) for host, port in named if host != ".")

    def _address_of(self, host: str, port: int, server_name: str = "") -> Address:
        shown = f"[{host}]" if ":" in host else host
        url = f"{self._endpoints.scheme}://{shown}:{port}{self._endpoints.path}"
        return Address(url, server_name)


async def _ask(resolver: dns.asyncresolver.Resolver, name: str, kind: str) -> list[Any]:
    """Return the records; none where the name is not there or has none of this kind."""
    try:
        return list(await resolver.resolve(name, kind))
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    except (dns.exception.DNSException, OSError) as error:
        raise DiscoveryError(f"{name} ({kind}): {type(error).__name__} {error}") from error

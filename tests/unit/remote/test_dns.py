"""Servers that DNS knows, asked of a real DNS server over UDP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dns.rcode
import pytest

from mm_orch.core.endpoints import read_endpoints
from mm_orch.remote.discovery import Address, DiscoveryError
from mm_orch.remote.dns import DnsFinder
from tests.name_server import named

if TYPE_CHECKING:
    from tests.name_server import Zone


def finder(entry: str, port: int) -> DnsFinder:
    return DnsFinder(read_endpoints(entry), server="127.0.0.1", port=port)


async def test_every_address_of_a_name_is_a_server_that_is_asked_by_the_name() -> None:
    zone: Zone = {
        ("vllm.models.svc", "A"): ["10.0.0.1", "10.0.0.2"],
        ("vllm.models.svc", "AAAA"): ["fd00::1"],
    }
    async with named(zone) as (server, port):
        asking = finder("dns:https://vllm.models.svc:8000/v1", port)
        name = "vllm.models.svc"

        assert await asking.find() == {
            Address("https://10.0.0.1:8000/v1", name),
            Address("https://10.0.0.2:8000/v1", name),
            Address("https://[fd00::1]:8000/v1", name),
        }
        server.zone = {("vllm.models.svc", "A"): ["10.0.0.2"]}
        assert await asking.find() == {Address("https://10.0.0.2:8000/v1", name)}


async def test_srv_records_name_hosts_and_ports() -> None:
    name = "_http._tcp.vllm.models.svc"
    zone: Zone = {(name, "SRV"): ["0 50 8000 pod-a.vllm.svc.", "0 50 8001 pod-b.vllm.svc."]}
    async with named(zone) as (server, port):
        asking = finder(f"srv:http://{name}", port)

        assert await asking.find() == {
            Address("http://pod-a.vllm.svc:8000"),
            Address("http://pod-b.vllm.svc:8001"),
        }
        server.zone = {(name, "SRV"): ["0 0 0 ."]}
        assert await asking.find() == frozenset()


async def test_a_name_that_is_not_there_has_no_servers() -> None:
    async with named({}) as (_, port):
        assert await finder("dns:http://gone.svc:8000", port).find() == frozenset()


async def test_a_dns_server_that_fails_is_no_answer() -> None:
    async with named({("vllm", "A"): ["10.0.0.1"]}) as (server, port):
        server.rcode = dns.rcode.SERVFAIL
        with pytest.raises(DiscoveryError, match=r"gone\.svc \(A\): .*SERVFAIL"):
            await finder("dns:http://gone.svc:8000", port).find()

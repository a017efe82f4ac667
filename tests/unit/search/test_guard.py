"""The guard alone: what it resolves, and the addresses that it makes sockets for."""

from __future__ import annotations

import socket

import pytest

from mm_orch.search.guard import Guard, RefusedError, resolve_by_system
from tests.page_server import Names

PUBLIC, OTHER_PUBLIC, PRIVATE = "93.184.216.34", "2606:4700::1111", "10.0.0.7"


def make_guard(names: Names, *allowed_hosts: str) -> Guard:
    return Guard(names, allowed_hosts=frozenset(allowed_hosts), allowed_ports=(80, 443))


def place(address: str, port: int = 80) -> tuple[int, int, int, str, tuple[str, int]]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))


async def test_a_name_of_public_addresses_alone_is_resolved_to_them() -> None:
    guard = make_guard(Names({"a.example": [[PUBLIC, OTHER_PUBLIC, PUBLIC]]}))

    found = await guard.resolve("a.example", 80)

    assert [(one["host"], one["port"]) for one in found] == [(PUBLIC, 80), (OTHER_PUBLIC, 80)]
    assert [one["family"] for one in found] == [socket.AF_INET, socket.AF_INET6]
    for one in found:
        guard.make_socket(place(one["host"])).close()


@pytest.mark.parametrize("addresses", [[PRIVATE], [PUBLIC, PRIVATE], [PUBLIC, "::ffff:127.0.0.1"]])
async def test_a_name_with_any_other_address_is_refused_as_a_whole(addresses: list[str]) -> None:
    guard = make_guard(Names({"a.example": [addresses]}))

    with pytest.raises(RefusedError, match=r"a.example is at .* which is refused"):
        await guard.resolve("a.example", 80)

    assert "allowed_private_hosts" in guard.refusal


PUBLIC_ADDRESSES = [f"93.184.216.{number}" for number in range(1, 7)]


async def test_addresses_that_are_not_tried_are_judged_all_the_same() -> None:
    guard = make_guard(Names({"a.example": [[*PUBLIC_ADDRESSES, PRIVATE], PUBLIC_ADDRESSES]}))

    with pytest.raises(RefusedError, match=f"a.example is at {PRIVATE}"):
        await guard.resolve("a.example", 80)
    found = await guard.resolve("a.example", 80)

    assert [one["host"] for one in found] == PUBLIC_ADDRESSES[:4]


async def test_a_name_that_changes_its_address_after_the_check_is_not_connected_to() -> None:
    names = Names({"a.example": [[PUBLIC], [PRIVATE]]})
    guard = make_guard(names)
    await guard.resolve("a.example", 80)

    with pytest.raises(RefusedError):
        guard.make_socket(place(PRIVATE))
    with pytest.raises(RefusedError):
        await guard.resolve("a.example", 80)


async def test_what_is_allowed_for_one_host_is_not_for_another() -> None:
    guard = make_guard(
        Names({"wiki.intra": [[PRIVATE]], "b.example": [["10.0.0.8"]]}), "wiki.intra"
    )
    await guard.resolve("wiki.intra", 80)
    guard.make_socket(place(PRIVATE)).close()

    with pytest.raises(RefusedError):
        await guard.resolve("b.example", 80)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "169.254.169.254", "::ffff:10.0.0.1", "fe80::1"]
)
def test_an_address_as_a_host_is_judged_when_its_socket_is_made(address: str) -> None:
    guard = make_guard(Names({}))

    with pytest.raises(RefusedError):
        guard.make_socket(place(address))

    assert address in guard.refusal
    make_guard(Names({}), address).make_socket(place(address)).close()


def test_no_socket_is_made_for_a_port_that_is_not_allowed() -> None:
    with pytest.raises(RefusedError, match="port 22"):
        make_guard(Names({})).make_socket(place(PUBLIC, 22))


@pytest.mark.parametrize("name", ["localhost", "2130706433", "0x7f000001", "127.1", "0177.0.0.1"])
async def test_other_spellings_of_this_machine_are_refused(name: str) -> None:
    guard = Guard(resolve_by_system, allowed_hosts=frozenset(), allowed_ports=(80,))

    with pytest.raises(OSError, match=r"."):
        await guard.resolve(name, 80)

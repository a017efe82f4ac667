"""Which addresses may be reached: every network that is not the public internet, and its edges."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.search.addresses import find_refusal

V4 = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
]
V6 = [
    "::/3",
    "::1/128",
    "::ffff:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "4000::/2",
    "8000::/1",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
]


@pytest.mark.parametrize("network", V4 + V6)
@given(data=st.data())
def test_nothing_within_a_network_that_is_not_public_is_reached(
    network: str, data: st.DataObject
) -> None:
    parsed = ipaddress.ip_network(network)
    first, last = int(parsed[0]), int(parsed[-1])
    number = data.draw(st.one_of(st.sampled_from([first, last]), st.integers(first, last)))

    kind = ipaddress.IPv4Address if parsed.version == 4 else ipaddress.IPv6Address

    assert find_refusal(str(kind(number)))


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fe80::1%eth0",
        "2001:db8::1%eth0",
        "255.255.255.255",
        "::",
        "",
        "localhost",
        "1.2.3",
        "0x7f000001",
        "2130706433",
        "010.0.0.1",
        "[2606:4700::1111]",
    ],
)
def test_a_clouds_metadata_and_what_is_no_address_are_refused(address: str) -> None:
    assert find_refusal(address)


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "168.63.129.15",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2606:4700:4700::1111",
        "2a00:1450:4001::1",
        "3ffe:ffff::1",
    ],
)
def test_the_public_internet_up_to_the_edges_of_other_networks_is_reached(address: str) -> None:
    assert find_refusal(address) == ""


@given(st.ip_addresses(v=4))
def test_what_the_standard_library_calls_private_is_refused(address: ipaddress.IPv4Address) -> None:
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert find_refusal(str(address))


@given(st.ip_addresses(v=6))
def test_the_same_of_version_6(address: ipaddress.IPv6Address) -> None:
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert find_refusal(str(address))


@given(st.ip_addresses(v=4))
def test_no_address_that_carries_another_within_it_is_reached(
    address: ipaddress.IPv4Address,
) -> None:
    number = int(address)
    carriers = [
        0xFFFF << 32 | number,
        number,
        int(ipaddress.IPv6Address("64:ff9b::")) | number,
        int(ipaddress.IPv6Address("64:ff9b:1::")) | number,
        0x2002 << 112 | number << 80,
        0x20010000 << 96 | number,
    ]
    for carrier in carriers:
        assert find_refusal(str(ipaddress.IPv6Address(carrier)))

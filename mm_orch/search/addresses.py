"""Which addresses of a network may be reached for a page that somebody else has named: pure.

Sources: IANA's special-purpose address registries for IPv4 and IPv6, RFC 6890, RFC 4291.
"""

from __future__ import annotations

import ipaddress

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Of IPv6 nothing but global unicast is reached (RFC 4291): outside of it lie loopback, link-local,
# unique local and multicast addresses, and the prefixes that carry an IPv4 address within them,
# such as IPv4-mapped ones (::ffff:0:0/96) and those of NAT64 (64:ff9b::/96, 64:ff9b:1::/48).
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")

_REFUSED: tuple[tuple[_Network, str], ...] = tuple(
    (ipaddress.ip_network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier's customers"),
        ("127.0.0.0/8", "loopback"),
        # Where clouds tell a machine its credentials, as they do at some addresses below.
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation"),
        ("192.31.196.0/24", "reserved"),
        ("192.52.193.0/24", "reserved"),
        ("192.88.99.0/24", "a relay of 6to4"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "reserved"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        # Azure's, in the midst of public ones.
        ("168.63.129.16/32", "a cloud's metadata"),
        # Teredo, benchmarks, ORCHID and others.
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "6to4, which carries an IPv4 address"),
        ("2620:4f:8000::/48", "reserved"),
        ("3fff::/20", "for documentation"),
    )
)


def find_refusal(address: str) -> str:
    """Return why an address may not be reached; empty for one that is on the public internet.

    Args:
        address: IPv4 in four parts or IPv6, as a resolver gives it.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "no address"
    if isinstance(parsed, ipaddress.IPv6Address) and (
        parsed.scope_id is not None or parsed not in _GLOBAL_UNICAST
    ):
        return "not on the public internet"
    return next(
        (
            reason
            for network, reason in _REFUSED
            if network.version == parsed.version and parsed in network
        ),
        "",
    )

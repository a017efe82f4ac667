"""What fetching a page may cost, and where it may lead."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """What fetching a page may cost, and where it may lead.

    Attributes:
        timeout_s: for one page with all its redirects.
        max_bytes: of the body, packed and unpacked.
        allowed_ports: that may be reached.
        allowed_private_hosts: names and addresses that may be off the public internet.
    """

    timeout_s: float = 10.0
    max_bytes: int = 2 * 2**20
    allowed_ports: tuple[int, ...] = (80, 443)
    allowed_private_hosts: tuple[str, ...] = ()

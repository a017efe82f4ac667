"""Where a URL leads, and whether it may be followed at all: pure, before any name is resolved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from mm_orch.search.errors import PageError

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_URL_CHARS = 2048
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is sent to.

    Attributes:
        url: without its fragment.
        host: small letters, without brackets.
    """

    url: str
    host: str
    port: int


def find_target(url: str, allowed_ports: Collection[int]) -> Target:
    """Return where a URL leads.

    Args:
        url: absolute.
        allowed_ports: those that may be reached.

    Raises:
        PageError: it may not be followed; says why.
    """
    parts = _split(url)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in _DEFAULT_PORTS:
        raise PageError(url, "only http and https are followed")
    if not _is_host(host):
        raise PageError(url, "it names no host")
    if "@" in parts.netloc:
        raise PageError(url, "a URL with a user or a password in it is not followed")
    port = _DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    if port not in allowed_ports:
        allowed = ", ".join(map(str, sorted(allowed_ports)))
        raise PageError(
            url, f"port {port} is none of workflows.search.allowed_ports, which are {allowed}"
        )
    return Target(url=parts._replace(fragment="").geturl(), host=host, port=port)


def _split(url: str) -> SplitResult:
    if len(url) > MAX_URL_CHARS:
        raise PageError(url, f"it has {len(url)} characters; at most {MAX_URL_CHARS} are followed")
    # What one parser takes for a part of the host, another takes for its end.
    if not url.isprintable() or "\\" in url or " " in url:
        raise PageError(url, "it has characters that no URL has")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise PageError(url, "it is no URL") from None
    return parts


def _is_host(host: str) -> bool:
    try:
        return bool(host) and bool(host.encode("idna")) and not set(host) & set("%/?#@[]<>^|`")
    except UnicodeError:
        return False

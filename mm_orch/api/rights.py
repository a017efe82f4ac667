"""Who may change the system: an admin's key, or without keys whoever is on this machine."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mm_orch.core.errors import ForbiddenError

if TYPE_CHECKING:
    from starlette.requests import Request

    from mm_orch.api.settings import ApiSettings


def require_admin(request: Request, settings: ApiSettings) -> None:
    """Refuse who may only ask.

    Raises:
        ForbiddenError: says whose right it is.
    """
    if settings.enable_auth:
        if not getattr(request.state, "is_admin", False):
            raise ForbiddenError(
                "This call needs an admin's key.",
                remedy="Give the key admin: true in api.api_keys.",
            )
        return
    host = request.client.host if request.client else ""
    # A page from elsewhere, in a browser on this machine, must not get through under its own name.
    names = [host, *_names_in(request)]
    if not all(_is_loopback(name) for name in names):
        raise ForbiddenError(
            "Without api.enable_auth this call is taken from this machine alone.",
            remedy="Set api.enable_auth and a key with admin: true to make it from elsewhere.",
        )


def _names_in(request: Request) -> list[str]:
    urls = [f"//{request.headers.get('host', '')}"]
    origin = request.headers.get("origin")
    if origin is not None:
        urls.append(origin)
    return [_host_of(url) for url in urls]


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

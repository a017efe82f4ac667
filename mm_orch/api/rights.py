"""Who may change the system: an admin's key, or without keys whoever is on this machine."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mm_orch.core.errors import ForbiddenError

if TYPE_CHECKING:
    from starlette.requests import Request

    from mm_orch.api.settings import ApiSettings


_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


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
    if not _is_from_here(request, settings):
        raise ForbiddenError(
            "Without api.enable_auth this call is taken from this machine alone.",
            remedy="Set api.enable_auth and a key with admin: true to make it from elsewhere.",
        )


def _is_from_here(request: Request, settings: ApiSettings) -> bool:
    headers = request.headers
    if any(name in headers for name in _FORWARDED):
        # The proxy is here; who asks it may be anywhere.
        return False
    # A page from elsewhere, in a browser on this machine, must not get through under its own name,
    # and one from another port of this machine is no page of ours unless the operator says so.
    address, origin = headers.get("host", ""), headers.get("origin")
    if origin is not None:
        is_ours = _address_of(origin).lower() == address.lower()
        is_named = origin in settings.cors_origins and _is_loopback(_host_of(origin))
        if not (is_ours or is_named):
            return False
    host = request.client.host if request.client else ""
    return _is_loopback(host) and _is_loopback(_host_of(f"//{address}"))


def _address_of(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""


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

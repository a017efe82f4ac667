"""What the HTTP layer is told when it is made."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.api.shared_rate_limits import Buckets


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key that may call; ``name`` may be logged, ``key`` never.

    Attributes:
        rate_limit_per_minute: requests; None for what all may send.
        priority_max: highest priority that its requests may ask for; None for any.
        has_own_name: False for a name that tells only the key's place among the others.
    """

    name: str
    key: str = field(repr=False)
    is_admin: bool = False
    rate_limit_per_minute: int | None = None
    priority_max: int | None = None
    has_own_name: bool = True

    @property
    def owner(self) -> str:
        """What stored sessions know the key by: the same for ever, and not to be sent as a key."""
        if self.has_own_name:
            return f"name:{self.name}"
        return f"key:{hashlib.sha256(self.key.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """The slice of the configuration that HTTP needs.

    Attributes:
        enable_auth: ask for a key on /v1, /api and /admin.
        api_keys: those that are good.
        cors_origins: pages of these origins may call.
        max_request_bytes: larger bodies are refused.
        rate_limit_per_minute: requests of each caller; None for any number.
        buckets: how much callers may still send, where servers share that; None for this one's own.
        find_max_prompts: gives the most prompts of one completion; each takes a place in the queue.
        body_timeout_s: a body that has not arrived by then is refused.
        send_timeout_s: a client that takes nothing for so long is dropped.
    """

    enable_auth: bool = False
    api_keys: tuple[ApiKey, ...] = ()
    cors_origins: tuple[str, ...] = ()
    max_request_bytes: int = 10 * 2**20
    rate_limit_per_minute: int | None = None
    buckets: Buckets | None = None
    health_path: str = "/health"
    ready_path: str = "/ready"
    find_max_prompts: Callable[[], int] = lambda: 100
    body_timeout_s: float = 60.0
    send_timeout_s: float = 30.0

"""Options of the section ``api``: who may call, from where, how much."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Strict

from mm_orch.config.schema.section import Section, option
from mm_orch.config.schema.values import (
    Allowed,
    AtLeastOne,
    Origins,
    PositiveFloat,
    SecretKey,
    Text,
    WholeNumber,
)

_AUTOMATIC_NAME = re.compile(r"key-[0-9]+")


class ApiKey(Section):
    """One caller: the key it sends, and what it may do."""

    name: Text = option(
        "Name of the caller in logs and metrics.", default=..., default_in_words="key-1, key-2, ..."
    )
    key: SecretKey = option("What the caller sends.", default=..., secret=True)
    admin: bool = option("May load, unload and drain models, and use /admin.", default=False)
    rate_limit_per_minute: AtLeastOne | None = option(
        "Requests a minute; null: the limit of the section.", default=None
    )
    priority_max: WholeNumber | None = option(
        "Highest priority that its requests may ask for; null: any.", default=None
    )

    @property
    def has_own_name(self) -> bool:
        """Whether the name stays the key's when others are added before it or taken away."""
        return _AUTOMATIC_NAME.fullmatch(self.name) is None


def _spell_out_keys(value: Any) -> Any:
    """Make mappings of the entries that are the key alone, and name those without a name."""
    if not isinstance(value, list | tuple):
        return value
    entries = [{"key": entry} if isinstance(entry, str) else entry for entry in value]
    return [
        {"name": f"key-{number}", **entry} if isinstance(entry, dict) else entry
        for number, entry in enumerate(entries, start=1)
    ]


class ApiSettings(Section):
    """The HTTP interface."""

    enable_auth: bool = option("Ask every caller for a key.", default=False)
    api_keys: Annotated[
        tuple[ApiKey, ...],
        Strict(strict=False),
        BeforeValidator(_spell_out_keys),
        Allowed(
            "a list whose entries are a key (ASCII, no spaces) or a mapping of name, key, admin,"
            " rate_limit_per_minute and priority_max"
        ),
    ] = option("The keys that callers may use.", default=(), secret=True)
    cors_origins: Origins = option("Web origins whose pages may call; * is every one.", default=())
    max_request_bytes: AtLeastOne = option("Largest request body in bytes.", default=10485760)
    request_timeout_s: PositiveFloat = option(
        "Seconds that a request may take when it does not say itself.", default=300.0
    )
    rate_limit_per_minute: AtLeastOne | None = option(
        "Requests a minute of one key, or without keys of one address; null is no limit.",
        default=None,
    )

"""How tests find a value of a configuration by its key."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mm_orch.config import Config


def value_at(config: Config, key: str) -> object:
    """Return the value at a dotted key."""
    value: object = config
    for name in key.split("."):
        value = getattr(value, name)
    return value

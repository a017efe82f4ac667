"""The settings that come by dotted key: from command line arguments, or from a live change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.config.keys import MODELS
from mm_orch.config.layer import Layer
from mm_orch.config.setting import COMMAND_LINE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mm_orch.config.keys import Path


def read_overrides(overrides: Mapping[str, object], *, origin: str = COMMAND_LINE) -> Layer:
    """Return the settings of values by dotted key."""
    layer = Layer()
    for key, value in overrides.items():
        layer.add(_split(key), _listed(value), origin=origin)
    return layer


def _split(key: str) -> Path:
    section, _, rest = key.partition(".")
    if section == MODELS and "." in rest:
        # A model's name may hold dots; its options do not.
        name, _, option = rest.rpartition(".")
        return (MODELS, name, option)
    return tuple(key.split("."))


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value

"""The body of a change to the configuration."""

from __future__ import annotations

from typing import Any

from pydantic import RootModel


class ConfigurationPatch(RootModel[dict[str, Any]]):
    """New values of live options by their dotted keys, all of them taken or none."""

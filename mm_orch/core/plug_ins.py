"""Where plug-ins lie: what entry points name, beside what this project has built in."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def find_targets(group: str, built_in: Mapping[str, str]) -> dict[str, str]:
    """Return ``module:attribute`` by name; an installed plug-in takes a built-in one's place.

    Args:
        group: of the entry points.
        built_in: named here too, so that a checkout works without being installed.
    """
    plug_ins = importlib.metadata.entry_points(group=group)
    return {**built_in, **{entry.name: entry.value for entry in plug_ins}}


def import_target(target: str) -> Any:
    """Return what stands at ``module:attribute``; raises whatever the module's code does."""
    module_name, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module_name), attribute)


def describe_failure(error: BaseException) -> str:
    """Say for callers why a plug-in could not be imported or made."""
    if isinstance(error, ImportError | AttributeError):
        return str(error)
    # What its code says may be anything; the log has it.
    return type(error).__name__

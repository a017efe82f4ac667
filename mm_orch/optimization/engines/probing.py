"""Looks for the libraries of an engine without importing them."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from mm_orch.optimization.engines.contract import Availability

if TYPE_CHECKING:
    from collections.abc import Iterable


def look_for_libraries(engine: str, modules: Iterable[str], *, remedy: str) -> Availability:
    """Say whether the modules that an engine needs are installed.

    Args:
        engine: its name.
        modules: of the libraries, top-level ones: what is below them could not be found without
            importing them.
        remedy: what to do where one is missing.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        return Availability(
            engine=engine,
            is_available=False,
            reason=f"not installed: {', '.join(missing)}",
            remedy=remedy,
        )
    return Availability(engine=engine, is_available=True)

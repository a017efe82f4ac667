"""What one call of the command line says about its answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What one call says about its answer; None leaves it to the server's defaults."""

    model: str | None = None
    engine: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None

"""What an answer tells of what was set for it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class EffectAnswer(BaseModel):
    """What the state of the system has set, of what the caller left open; and why."""

    by: Literal["mood"]
    what: Literal["instruction", "temperature"]
    value: str | float
    reason: str

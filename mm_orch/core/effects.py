"""What the state of the system changes in a request, told with the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """One change that the caller did not ask for.

    Attributes:
        by: what made it.
        what: what was set.
        value: to what.
        reason: why, for people.
    """

    by: Literal["mood"]
    what: Literal["instruction", "temperature"]
    value: str | float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """How a call is to be answered, where it does not say itself.

    Attributes:
        instruction: shown to the model before the conversation; None for none.
        temperature: None for the default.
        effects: tell of each that is set.
    """

    instruction: str | None = None
    temperature: float | None = None
    effects: tuple[Effect, ...] = ()


NO_ADVICE = Advice()

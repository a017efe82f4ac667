"""Reads what plan options say: ``name=number`` parts, separated by commas."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.core.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A number that may be given.

    Attributes:
        low: least value; ``high`` the greatest.
        unit: what it counts, for people.
        is_whole: no fractions.
        default: where it is not given; None where it has to be.
    """

    low: float
    high: float
    unit: str
    is_whole: bool = False
    default: float | None = None

    @property
    def words(self) -> str:
        """What is allowed."""
        kind = "a whole number" if self.is_whole else "a number"
        return f"{kind} of {self.unit} from {self.low:g} to {self.high:g}"


def parse_fields(option: str, text: str, fields: Mapping[str, Field]) -> dict[str, float]:
    """Return every field's value by its name, defaults included.

    Raises:
        InvalidValueError: naming the option, the field, the value and what is allowed.
    """
    given: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, sign, value = (piece.strip() for piece in part.partition("="))
        if not sign or name not in fields:
            known = ", ".join(fields)
            raise InvalidValueError(
                f"{option}: {part!r} is not allowed; give NAME=NUMBER with these names: {known}"
            )
        if name in given:
            raise InvalidValueError(f"{option}: {name} is given twice")
        given[name] = _parse_number(option, name, value, fields[name])
    missing = [name for name, one in fields.items() if one.default is None and name not in given]
    if missing:
        allowed = fields[missing[0]].words
        raise InvalidValueError(f"{option}: {missing[0]} is missing; give {allowed}")
    defaults = {name: one.default for name, one in fields.items() if one.default is not None}
    return {**defaults, **given}


def _parse_number(option: str, name: str, text: str, field: Field) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not field.low <= value <= field.high or (field.is_whole and not value.is_integer()):
        raise InvalidValueError(f"{option}: {name}={text!r} is not allowed; give {field.words}")
    return value

"""Turns text from a variable, a ``${NAME}`` or the file into the type that its key has."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mm_orch.config.kinds import Shape

if TYPE_CHECKING:
    from mm_orch.config.kinds import ValueKind

_BOOL_BY_WORD = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_NULL_WORDS = {"", "null", "none", "~"}
_INT = re.compile(r"[+-]?[0-9]{1,40}")
_FLOAT = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def from_text(text: str, kind: ValueKind) -> object:
    """Convert; text that does not fit the kind comes back as it is, for validation to refuse."""
    stripped = text.strip()
    if kind.is_nullable and stripped.lower() in _NULL_WORDS:
        return None
    match kind.shape:
        case Shape.BOOL:
            return _BOOL_BY_WORD.get(stripped.lower(), text)
        case Shape.INT:
            return int(stripped) if _INT.fullmatch(stripped) else text
        case Shape.FLOAT:
            return float(stripped) if _FLOAT.fullmatch(stripped) else text
        case Shape.LIST:
            return [entry for part in text.split(",") if (entry := part.strip())]
        case Shape.TEXT | Shape.MAPPING:
            return stripped

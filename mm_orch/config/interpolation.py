"""Replaces ``${NAME}`` and ``${NAME:default}`` in texts of the file by variables' values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_REFERENCE = re.compile(
    r"(?P<escaped>\$\$\{)"
    r"|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(:(?P<default>[^{}]*))?\}"
    r"|(?P<broken>\$\{)"
)


@dataclass(frozen=True, slots=True)
class Interpolation:
    """A text after replacement.

    Attributes:
        names: variables referred to, those that gave only a default included.
        problems: why it cannot be used, or empty.
    """

    text: str
    names: tuple[str, ...]
    problems: tuple[str, ...]


def interpolate(text: str, environ: Mapping[str, str]) -> Interpolation:
    """Replace every reference; ``$${`` stands for ``${`` itself."""
    names: list[str] = []
    problems: list[str] = []

    def replacement(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "${"
        if match["broken"]:
            problems.append("${ must begin ${NAME} or ${NAME:default}; write $${ for the signs")
            return ""
        name, default = match["name"], match["default"]
        names.append(name)
        if name in environ:
            return environ[name]
        if default is None:
            problems.append(f"the variable {name} is not set and ${{{name}}} has no default")
            return ""
        return str(default)

    replaced = _REFERENCE.sub(replacement, text)
    return Interpolation(replaced, tuple(dict.fromkeys(names)), tuple(dict.fromkeys(problems)))


def escape(text: str) -> str:
    """Return the text so that :func:`interpolate` gives it back."""
    return text.replace("${", "$${")

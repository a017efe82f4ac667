"""Writes the effective configuration as YAML, each value with its origin, secrets masked."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from mm_orch.config.interpolation import escape
from mm_orch.config.keys import MODELS, dotted, find_key
from mm_orch.config.schema.section import Section
from mm_orch.config.setting import DEFAULT, MASK, masked_url, masked_user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mm_orch.config.keys import Path
    from mm_orch.config.loading import LoadedConfig

_COMMENT_COLUMN = 56
# Text that YAML readers of every version take for text.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/._-]*")
_NOT_TEXT = {"true", "false", "yes", "no", "on", "off", "null", "none", "y", "n", "nan", "inf"}


def render_effective(loaded: LoadedConfig) -> str:
    """Return the configuration as YAML that loads again, but for the masked secrets."""
    return "\n".join(_section_lines(loaded, (), loaded.config)) + "\n"


def render_changed(loaded: LoadedConfig) -> dict[str, str]:
    """Return what is set other than by default: values on one line by dotted key."""
    return {
        dotted(path): _rendered(path, value)
        for path, value in _values((), loaded.config)
        if loaded.origins[dotted(path)] != DEFAULT
    }


def _values(path: Path, section: Section) -> Iterator[tuple[Path, Any]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        own_path = (*path, name)
        if isinstance(value, Section):
            yield from _values(own_path, value)
        elif own_path == (MODELS,):
            for model_name, model in value.items():
                yield from _values((MODELS, model_name), model)
        else:
            yield own_path, value


def _section_lines(loaded: LoadedConfig, path: Path, section: Section) -> Iterator[str]:
    indent = "  " * len(path)
    for name in type(section).model_fields:
        value = getattr(section, name)
        own_path = (*path, name)
        if isinstance(value, Section):
            yield f"{indent}{name}:"
            yield from _section_lines(loaded, own_path, value)
        elif own_path == (MODELS,):
            yield f"{MODELS}:"
            for model_name, model in value.items():
                yield f"  {yaml_text(model_name)}:"
                yield from _section_lines(loaded, (MODELS, model_name), model)
        else:
            line = f"{indent}{name}: {_rendered(own_path, value)}"
            yield f"{line:<{_COMMENT_COLUMN}}  # {loaded.origins[dotted(own_path)]}"


def _rendered(path: Path, value: Any) -> str:
    key = find_key(path)
    if key is not None and key.facts.is_secret and isinstance(value, str):
        return yaml_value(masked_url(value))
    return yaml_value(value)


def yaml_value(value: Any) -> str:
    """Return a value on one line, as YAML; API keys become numbered masks."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return yaml_text(escape(masked_user(value)))
        case SecretStr():
            return yaml_text(MASK)
        case list() | tuple():
            entries = [
                _entry(entry, number) if isinstance(entry, Section) else yaml_value(entry)
                for number, entry in enumerate(value, start=1)
            ]
            return f"[{', '.join(entries)}]"
        case _:
            return str(value)


def yaml_text(text: str) -> str:
    """Return text as YAML, in quotes where they are needed."""
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def _entry(entry: Section, number: int) -> str:
    """Return a section as a flow mapping; numbered masks keep different secrets different."""
    parts = []
    for name in type(entry).model_fields:
        value = getattr(entry, name)
        text = yaml_text(f"{MASK}{number}") if isinstance(value, SecretStr) else yaml_value(value)
        parts.append(f"{name}: {text}")
    return "{" + ", ".join(parts) + "}"

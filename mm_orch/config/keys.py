"""All option keys of the schema, found by walking its models once."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mm_orch.config.kinds import ValueKind, kind_of
from mm_orch.config.schema import Config, ModelConfig
from mm_orch.config.schema.section import OptionFacts, Section, facts_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic.fields import FieldInfo

Path = tuple[str, ...]

MODELS = "models"
ANY_MODEL = "*"
"""Stands for a model's name in the paths of :func:`keys_by_path`."""
SERVER_SPELLING = ("optimization", "server")
SERVER = ("monitoring", "server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One option; ``field`` is pydantic's description of it."""

    path: Path
    field: FieldInfo
    kind: ValueKind
    facts: OptionFacts

    @property
    def description(self) -> str:
        """What the option means."""
        return self.field.description or ""

    @property
    def default(self) -> Any:
        """The default where it is a plain value, else pydantic's mark for none."""
        return self.field.default


def dotted(path: Path) -> str:
    """Return the path as people write it."""
    return ".".join(path)


@functools.cache
def keys_by_path() -> Mapping[Path, Key]:
    """Return every option; those of a model under ``("models", "*", ...)``."""
    return {key.path: key for key in _walk(Config, ())}


@functools.cache
def sections_by_path() -> Mapping[Path, type[Section]]:
    """Return every section, the root as ``()`` and a model's as ``("models", "*")``."""
    return dict(_walk_sections(Config, ()))


def generic(path: Path) -> Path:
    """Replace a model's name by the mark for any."""
    if len(path) > 1 and path[0] == MODELS:
        return (MODELS, ANY_MODEL, *path[2:])
    return path


def find_key(path: Path) -> Key | None:
    """Return the option at a path, or None where there is none."""
    return keys_by_path().get(generic(path))


def section_of(field: FieldInfo) -> type[Section] | None:
    """Return the section that a field holds, or None for an option."""
    annotation: Any = field.annotation
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return None


def _walk(model: type[Section], path: Path) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        own_path = (*path, name)
        inner = section_of(field)
        if own_path == (MODELS,):
            yield from _walk(ModelConfig, (MODELS, ANY_MODEL))
        elif inner is not None:
            yield from _walk(inner, own_path)
        else:
            yield Key(
                path=own_path,
                field=field,
                kind=kind_of(field.annotation, tuple(field.metadata)),
                facts=facts_of(field),
            )


def _walk_sections(model: type[Section], path: Path) -> Iterator[tuple[Path, type[Section]]]:
    yield path, model
    for name, field in model.model_fields.items():
        inner = section_of(field)
        if inner is not None:
            yield from _walk_sections(inner, (*path, name))
    if not path:
        yield (MODELS, ANY_MODEL), ModelConfig

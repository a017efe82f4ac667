"""What kind of value an option takes, read from its annotation: for words and for conversion."""

from __future__ import annotations

import enum
import types
import typing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from mm_orch.config.schema.section import Section
from mm_orch.config.schema.values import LARGEST_INT, Allowed

if TYPE_CHECKING:
    from collections.abc import Mapping


class Shape(enum.Enum):
    """The outer shape of a value."""

    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    TEXT = "text"
    LIST = "list"
    MAPPING = "mapping"


_WORDS_BY_TYPE: dict[Any, tuple[Shape, str]] = {
    bool: (Shape.BOOL, "true or false"),
    int: (Shape.INT, "a whole number"),
    float: (Shape.FLOAT, "a number"),
    str: (Shape.TEXT, "text"),
    SecretStr: (Shape.TEXT, "text"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueKind:
    """One option's kind.

    Attributes:
        words: what is allowed, to follow "must be".
        choices: texts that are allowed or likely, of a list those of its entries.
        entry_words: of a list: what each entry must be.
        entry_options: of a list of sections: the kinds of their options.
        limits: bounds of a number: ``ge`` and ``le`` are allowed themselves, ``gt`` is not.
        is_nullable: null is allowed.
    """

    shape: Shape
    words: str
    choices: tuple[str, ...] = ()
    entry_words: str = ""
    entry_options: Mapping[str, ValueKind] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    is_nullable: bool = False


def kind_of(annotation: Any, metadata: tuple[Any, ...] = ()) -> ValueKind:
    """Return the kind of an annotation with the metadata that stands around it."""
    if typing.get_origin(annotation) is Annotated:
        inner, *own = typing.get_args(annotation)
        return kind_of(inner, (*own, *metadata))
    kind = _bare_kind(annotation, metadata)
    for item in metadata:
        if isinstance(item, Allowed):
            return replace(kind, words=item.words, choices=(*kind.choices, *item.known))
    return kind


def _bare_kind(annotation: Any, metadata: tuple[Any, ...]) -> ValueKind:
    origin = typing.get_origin(annotation)
    if origin in {Union, types.UnionType}:
        return _union_kind(typing.get_args(annotation))
    if origin is Literal:
        choices = typing.get_args(annotation)
        one_of = "one of " if len(choices) > 1 else ""
        return ValueKind(shape=Shape.TEXT, words=one_of + ", ".join(choices), choices=choices)
    if origin is tuple:
        entry_type = typing.get_args(annotation)[0]
        entry = kind_of(entry_type)
        return ValueKind(
            shape=Shape.LIST,
            words=f"a list, each entry {entry.words}",
            choices=entry.choices,
            entry_words=entry.words,
            entry_options=_option_kinds(entry_type),
        )
    if origin is dict:
        return ValueKind(shape=Shape.MAPPING, words="a mapping")
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return ValueKind(
            shape=Shape.MAPPING, words=f"a mapping of {', '.join(annotation.model_fields)}"
        )
    shape, words = _WORDS_BY_TYPE[annotation]
    limits = _limits(metadata)
    return ValueKind(shape=shape, words=words + _limits_in_words(limits), limits=limits)


def _option_kinds(annotation: Any) -> Mapping[str, ValueKind]:
    fields: dict[str, FieldInfo] = getattr(annotation, "model_fields", {})
    return {
        name: kind_of(entry.annotation, tuple(entry.metadata)) for name, entry in fields.items()
    }


def _union_kind(members: tuple[Any, ...]) -> ValueKind:
    kinds = [kind_of(member) for member in members if member is not type(None)]
    is_nullable = type(None) in members
    words = " or ".join(kind.words for kind in kinds)
    return replace(
        kinds[0],
        words=f"{words}, or null" if is_nullable else words,
        choices=tuple(choice for kind in kinds for choice in kind.choices),
        is_nullable=is_nullable,
    )


def _limits(metadata: tuple[Any, ...]) -> dict[str, float]:
    return {
        name: limit
        for item in _flatten(metadata)
        for name in ("ge", "gt", "le")
        if (limit := getattr(item, name, None)) is not None
    }


def _limits_in_words(limits: Mapping[str, float]) -> str:
    match {name: limit for name, limit in limits.items() if abs(limit) != LARGEST_INT}:
        case {"ge": low, "le": high}:
            return f" from {low} to {high}"
        case {"gt": low, "le": high}:
            return f" above {low}, at most {high}"
        case {"ge": low}:
            return f", at least {low}"
        case {"gt": low}:
            return f" above {low}"
        case _:
            return ""


def _flatten(metadata: tuple[Any, ...]) -> list[Any]:
    flat: list[Any] = []
    for item in metadata:
        flat += item.metadata if isinstance(item, FieldInfo) else [item]
    return flat

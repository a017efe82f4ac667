"""What the sections of the schema are made of: closed, frozen models with described options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic.fields import FieldInfo


class Section(BaseModel):
    """A mapping of the configuration file; unknown keys are refused, values never change."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        # Text is converted before validation, by one rule for every origin; nothing else is.
        strict=True,
        allow_inf_nan=False,
        # A traceback must not carry API keys.
        hide_input_in_errors=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionFacts:
    """What the schema says of an option beside its type.

    Attributes:
        is_live: may be changed while the server runs.
        is_secret: never printed.
        default_in_words: for defaults that depend on something else.
    """

    is_live: bool = False
    is_secret: bool = False
    default_in_words: str | None = None


def option(
    description: str,
    *,
    default: Any,
    live: bool = False,
    secret: bool = False,
    default_in_words: str | None = None,
) -> Any:
    """Describe one option for its model.

    ``description`` is a sentence; ``default`` a value, ``...`` where one is required, or a function
    of the fields before it; the other keywords are those of :class:`OptionFacts`.
    """
    facts = OptionFacts(is_live=live, is_secret=secret, default_in_words=default_in_words)
    # A callable is the one extra that may carry any object with it.
    extra = _FactsExtra(facts)
    if callable(default):
        return Field(default_factory=default, description=description, json_schema_extra=extra)
    return Field(default, description=description, json_schema_extra=extra)


def section(factory: Callable[[], Any], description: str) -> Any:
    """Describe a section inside another."""
    return option(description, default=factory)


def facts_of(field: FieldInfo) -> OptionFacts:
    """Return what :func:`option` was told about a field."""
    extra = field.json_schema_extra
    return extra.facts if isinstance(extra, _FactsExtra) else OptionFacts()


@dataclass(frozen=True, slots=True)
class _FactsExtra:
    facts: OptionFacts

    def __call__(self, schema: dict[str, Any]) -> None:
        """Show in a JSON schema too what may be changed live."""
        schema["x-live"] = self.facts.is_live

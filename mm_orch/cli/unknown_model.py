"""Tells of a name that no configured model has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.errors import ModelNotFoundError

if TYPE_CHECKING:
    from mm_orch.config import Config


def unknown_model(config: Config, name: str, *, remedy: str | None = None) -> ModelNotFoundError:
    """Return the error to raise, which names the models there are."""
    known = ", ".join(sorted(config.model_name_by_spelling))
    return ModelNotFoundError(
        f"No model is named {name!r}. Known: {known}.", param="model", remedy=remedy
    )

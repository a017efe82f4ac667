"""Which configured model a request's ``model`` field means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.errors import ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Router:
    """Resolves names and aliases to the model that answers."""

    def __init__(self, aliases_by_model: Mapping[str, Sequence[str]], default_model: str) -> None:
        self._model_by_name = {model: model for model in aliases_by_model}
        for model, aliases in aliases_by_model.items():
            for alias in aliases:
                self._model_by_name[alias] = model
        self.default_model = default_model

    @property
    def models(self) -> list[str]:
        """The configured models, without aliases, in order."""
        return list(dict.fromkeys(self._model_by_name.values()))

    def choose(self, name: str | None) -> str:
        """Return the model for this name or alias; None means the default model.

        Raises:
            ModelNotFoundError: naming the models there are.
        """
        if name is None:
            return self.default_model
        model = self._model_by_name.get(name)
        if model is None:
            known = ", ".join(sorted(self._model_by_name))
            raise ModelNotFoundError(f"No model is named {name!r}. Known: {known}.", param="model")
        return model

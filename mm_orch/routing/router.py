"""Which configured model a request's ``model`` field means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.errors import ModelNotFoundError
from mm_orch.core.routing import AUTO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Router:
    """Resolves names and aliases to the model that answers.

    Args:
        aliases_by_model: the other names of each configured model.
        default_model: generates where a request names none.
        default_embedder: embeds where a request names none, or None without such a model.
    """

    def __init__(
        self,
        aliases_by_model: Mapping[str, Sequence[str]],
        default_model: str,
        default_embedder: str | None = None,
    ) -> None:
        self._model_by_name = {model: model for model in aliases_by_model}
        for model, aliases in aliases_by_model.items():
            for alias in aliases:
                self._model_by_name[alias] = model
        self.default_model = default_model
        self._default_embedder = default_embedder

    def choose(self, name: str | None) -> str:
        """Return the model for this name or alias.

        None means the default model, and so does ``auto`` where nothing is known of the request.

        Raises:
            ModelNotFoundError: naming the models there are.
        """
        if name is None or name == AUTO:
            return self.default_model
        model = self._model_by_name.get(name)
        if model is None:
            known = ", ".join(sorted(self._model_by_name))
            raise ModelNotFoundError(f"No model is named {name!r}. Known: {known}.", param="model")
        return model

    def choose_embedder(self, name: str | None) -> str:
        """Return the same for a request to embed texts: None means the default embedding model.

        Raises:
            ModelNotFoundError: naming the models there are, or saying that none embeds.
        """
        if name is not None:
            return self.choose(name)
        if self._default_embedder is None:
            raise ModelNotFoundError(
                "No embedding model is configured.",
                param="model",
                remedy="Add one to the configuration, with task: embed.",
            )
        return self._default_embedder

"""What is done to texts before they are embedded, and to their vectors afterwards.

Everything here computes without waiting; the orchestrator runs it in a thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mm_orch.core.errors import ContextLengthError, InvalidValueError
from mm_orch.orchestration.preparation import check_token_ids
from mm_orch.workers.embedding import VECTOR_DTYPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mm_orch.core.embedding import EmbeddingInput
    from mm_orch.models.recipe import VectorRecipe
    from mm_orch.orchestration.model_text import ModelText


def encode_inputs(inputs: Sequence[EmbeddingInput], text: ModelText) -> list[tuple[int, ...]]:
    """Return the token ids of each input, with the model's special tokens around texts.

    Raises:
        InvalidValueError: one is empty, or holds what is no text or no token of the model.
        ContextLengthError: one is too long; says which.
    """
    return [_encode(one, f"input[{index}]", text) for index, one in enumerate(inputs)]


def encode_text(given: str, text: ModelText) -> tuple[int, ...]:
    """Return the token ids of a text, with the model's special tokens around it.

    Raises:
        InvalidValueError: it holds what is no text.
    """
    return tuple(text.codec.encode_text(given.lower() if text.recipe.is_lowercased else given))


def _encode(given: EmbeddingInput, place: str, text: ModelText) -> tuple[int, ...]:
    if isinstance(given, str):
        try:
            token_ids = encode_text(given, text)
        except InvalidValueError as error:
            raise InvalidValueError(f"{place}: {error.message}", param="input") from error
    else:
        check_token_ids(given, text, param="input")
        token_ids = given
    if not token_ids or given == "":
        raise InvalidValueError(f"{place} is empty; at least one token is needed.", param="input")
    if len(token_ids) > text.context_length:
        raise ContextLengthError(
            f"{place} has {len(token_ids)} tokens; model {text.name} takes {text.context_length}"
            " tokens a text.",
            param="input",
            remedy="Cut the text into parts and embed each.",
        )
    return token_ids


def check_dimensions(wanted: int | None, dimensions: int, text: ModelText) -> None:
    """Refuse a length that the model's vectors cannot be cut to.

    Raises:
        InvalidValueError: says which lengths they can have.
    """
    if wanted is None or wanted == dimensions:
        return
    recipe = text.recipe
    if recipe.can_cut_anywhere and wanted < dimensions:
        return
    if wanted in recipe.cut_dimensions and wanted < dimensions:
        return
    allowed = ", ".join(map(str, sorted({*recipe.cut_dimensions, dimensions})))
    if recipe.can_cut_anywhere:
        allowed = f"1 to {dimensions}"
    reason = (
        ""
        if recipe.can_cut_anywhere or recipe.cut_dimensions
        else ": it was not trained for vectors that are cut"
    )
    raise InvalidValueError(
        f"dimensions is {wanted}; model {text.name} gives {allowed}{reason}.", param="dimensions"
    )


def as_array(
    vectors: Sequence[bytes], dimensions: int, wanted: int | None, recipe: VectorRecipe
) -> NDArray[np.float32]:
    """Return what a worker sent as [number of texts, dimensions], cut where that is wanted."""
    whole = np.frombuffer(b"".join(vectors), VECTOR_DTYPE).reshape(len(vectors), dimensions)
    return cut(whole, wanted, recipe)


def cut(
    vectors: NDArray[np.float32], wanted: int | None, recipe: VectorRecipe
) -> NDArray[np.float32]:
    """Return the first ``wanted`` components, brought to length 1 again where they were."""
    if wanted is None or wanted == vectors.shape[1]:
        return vectors
    shorter = vectors[:, :wanted]
    if not recipe.is_normalized:
        return shorter
    lengths = np.linalg.norm(shorter, axis=1, keepdims=True)
    # A vector whose first components are all zero has no direction to keep.
    return (shorter / np.where(lengths > 0, lengths, 1)).astype(np.float32)

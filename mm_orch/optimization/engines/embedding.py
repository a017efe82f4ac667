"""What an engine must offer to embed texts, and what its implementations share.

An embedding backend computes one vector a text, many texts at a time; the batcher above it
decides which. Life: ``probe`` (any process, no heavy import), ``start`` once in the worker, any
number of ``embed``, ``stop``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

import numpy as np

from mm_orch.core.errors import EngineStartError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mm_orch.models.recipe import VectorRecipe
    from mm_orch.optimization.engines.contract import Availability, EngineFacts, EngineSpec

_WIDTH_STEP = 8


@runtime_checkable
class EmbeddingBackend(Protocol):
    """An engine that turns a batch of texts into vectors."""

    name: ClassVar[str]

    @classmethod
    def probe(cls) -> Availability:
        """Say whether this engine can embed here, without importing its library."""

    def start(self, spec: EngineSpec) -> EngineFacts:
        """Load the model; a second call returns the same facts, with ``dimensions`` set.

        Raises:
            EngineStartError: with the reason and the remedy.
        """

    def embed(self, batch: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return one vector a text, [len(batch), dimensions], in the order of the batch.

        Args:
            batch: token ids of each text, at least one and at most ``context_length``.

        A text's vector does not depend on its neighbours, but for rounding.

        Raises:
            EngineError: none was computed, and the same batch may be tried again.
        """

    def stop(self) -> None:
        """Free everything; safe twice, and after a failure."""


def pad(
    batch: Sequence[Sequence[int]], *, padding_id: int, max_width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return token ids and mask, both [len(batch), width]: texts begin at the left.

    The width is rounded up, so that libraries which prepare themselves for each shape meet few.
    """
    longest = max(map(len, batch))
    width = max(longest, min(-(-longest // _WIDTH_STEP) * _WIDTH_STEP, max_width))
    token_ids = np.full((len(batch), width), padding_id, dtype=np.int64)
    mask = np.zeros((len(batch), width), dtype=np.int64)
    for row, text in enumerate(batch):
        token_ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return token_ids, mask


def refuse_unsupported(model: str, recipe: VectorRecipe) -> None:
    """Refuse a model whose files ask for what is not computed here.

    Raises:
        EngineStartError: names it.
    """
    if recipe.unsupported:
        raise EngineStartError(
            f"{model}: its modules.json asks for {', '.join(recipe.unsupported)}, which is not"
            " computed here.",
            remedy="Use a model of Transformer, Pooling and Normalize alone.",
        )

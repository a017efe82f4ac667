"""Has texts made into vectors for one run of a workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.embedding import EmbeddingRequest
from mm_orch.workflows.generating import round_up_timeout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.orchestration.generation import Embedder, Embeddings
    from mm_orch.workflows.call import WorkflowCall


class RunEmbedder:
    """The default embedding model, as one run asks it: with its caller and priority.

    Args:
        embedder: takes the requests.
        call: that the run answers.
    """

    def __init__(self, embedder: Embedder, call: WorkflowCall) -> None:
        self._embedder = embedder
        self._call = call

    async def embed(self, texts: Sequence[str], *, timeout_s: float | None) -> Embeddings:
        """Return the vectors of the texts, in their order.

        Args:
            texts: none is empty or longer than the model takes.
            timeout_s: what is left of the step's time; None for the default.

        Raises:
            RequestError: no embedding model is configured, or a text is none that it takes.
            OverloadError, DeadlineError, EngineError: as every request to embed.
        """
        return await self._embedder.embed(
            EmbeddingRequest(
                request_id=self._call.request_id,
                inputs=tuple(texts),
                timeout_s=None if timeout_s is None else round_up_timeout(timeout_s),
                priority=self._call.priority,
                caller=self._call.caller,
            )
        )

"""What a request to embed texts asks for."""

from __future__ import annotations

import msgspec

from mm_orch.core.generation import ANONYMOUS

EmbeddingInput = str | tuple[int, ...]
"""A text, or its token ids, which are used as they are."""


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request for the vectors of some texts.

    Attributes:
        request_id: unique, echoed in the answer's X-Request-ID.
        inputs: the texts.
        model: name or alias, or None for the default embedding model.
        dimensions: cut the vectors to so many, or None.
        timeout_s: the deadline, seconds from now, or None for ``api.request_timeout_s``.
        priority: higher goes first; see core.priority.
        caller: name of the key that it belongs to.
    """

    request_id: str
    inputs: tuple[EmbeddingInput, ...]
    model: str | None = None
    dimensions: int | None = None
    timeout_s: float | None = None
    priority: int = 0
    caller: str = ANONYMOUS

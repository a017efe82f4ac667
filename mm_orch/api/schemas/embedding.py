"""The body of POST /v1/embeddings, and its answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from mm_orch.api.schemas.answers import OwnNote
from mm_orch.api.schemas.inputs import TokenIds, split_inputs
from mm_orch.api.schemas.sampling import MAX_TIMEOUT_S, Priority
from mm_orch.core.embedding import EmbeddingRequest
from mm_orch.orchestration.limits import MAX_EMBEDDING_INPUTS

_Text = Annotated[str, Field(min_length=1)]
_Many = Field(min_length=1, max_length=MAX_EMBEDDING_INPUTS)


class EmbeddingsRequest(BaseModel):
    """Texts whose vectors are wanted."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    input: _Text | TokenIds | Annotated[list[_Text], _Many] | Annotated[list[TokenIds], _Many] = (
        Field(
            description="Text or token ids of the model, or several of the same kind. Token ids are"
            " used as they are: the model's special tokens are put around texts alone."
        )
    )
    model: str | None = Field(
        None,
        max_length=200,
        description='Name or alias; none or "auto" is the default embedding model.',
    )
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="base64 holds the numbers as little-endian float32; float is the default."
    )
    dimensions: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Cut the vectors to so many; only where the model was trained for it."
    )
    user: str | None = Field(None, description="Accepted, not used.")
    timeout_s: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S)] | None = Field(
        None, description="The request's deadline, seconds from now."
    )
    priority: Priority | None = Field(
        None, description="Higher goes first; 0 is the default. A key may have a lower bound."
    )

    def as_request(self, request_id: str) -> EmbeddingRequest:
        """Return it in our own words."""
        return EmbeddingRequest(
            request_id=request_id,
            inputs=tuple(split_inputs(self.input)),
            model=None if self.model == "auto" else self.model,
            dimensions=self.dimensions,
            timeout_s=self.timeout_s,
        )


class EmbeddingObject(BaseModel):
    """One text's vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens of all texts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """The vectors, in the order of the texts."""

    object: Literal["list"]
    data: list[EmbeddingObject]
    model: str
    usage: EmbeddingUsage
    muai: OwnNote | None = None

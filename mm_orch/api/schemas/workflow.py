"""The bodies of POST /api/query and POST /api/chat."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from mm_orch.api.schemas.sampling import MAX_TIMEOUT_S, Priority
from mm_orch.core.generation import GenerationOptions
from mm_orch.orchestration.limits import SEED_BOUND
from mm_orch.storage.sessions import SESSION_ID

MAX_QUERY_CHARS = 10_000
MAX_CONTEXT_CHARS = 100_000

SessionId = Annotated[str, Field(pattern=SESSION_ID)]


class Preferences(BaseModel):
    """How to answer; null means the default."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: str | None = Field(
        default=None,
        max_length=200,
        description='Name or alias; none is the default model, and "auto" has one chosen.',
    )
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Longest answer in tokens."
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        default=None, description="0 is greedy; the default is 1."
    )
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-SEED_BOUND, lt=SEED_BOUND)] | None = Field(
        default=None, description="The same seed gives the same answer."
    )
    timeout_s: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S)] | None = Field(
        default=None, description="The deadline of all steps together, seconds from now."
    )
    priority: Priority | None = Field(
        default=None,
        description="Higher goes first; 0 is the default. A key may have a lower bound.",
    )

    def options(self) -> GenerationOptions:
        """Return the generation's options in our own words."""
        return GenerationOptions(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
        )


class QueryRequest(BaseModel):
    """A question to a workflow."""

    model_config = ConfigDict(extra="forbid", strict=True)

    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARS)
    session_id: SessionId | None = Field(
        default=None, description="The session to go on with; none: the question stands alone."
    )
    context: Annotated[str, Field(max_length=MAX_CONTEXT_CHARS)] | None = Field(
        default=None,
        description="What the answer is to go by, shown to the model before the question.",
    )
    workflow_type: str | None = Field(
        default=None,
        max_length=64,
        description='The workflow; "auto" has one chosen, and so has none, unless'
        " routing.workflows.by_default is false: then none is chat_generate.",
    )
    preferences: Preferences | None = None
    stream: bool | None = Field(default=None, description="Events as it goes, the result last.")


class MessageRequest(BaseModel):
    """The next message of a stored conversation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    message: str = Field(min_length=1, max_length=MAX_QUERY_CHARS)
    session_id: SessionId | None = Field(
        default=None, description="The session to go on with; none begins one."
    )
    preferences: Preferences | None = None

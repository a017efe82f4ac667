"""The body of POST /api/rag/query, and what it answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from mm_orch.api.schemas.answers import FailedStepAnswer
from mm_orch.api.schemas.workflow import MAX_QUERY_CHARS, Preferences
from mm_orch.api.schemas.workflow_answers import SourceAnswer
from mm_orch.workflows.call import PassageOptions

MAX_TOP_K = 20


class DocumentsQuery(BaseModel):
    """A question to the caller's documents."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARS)
    top_k: Annotated[int, Field(ge=1, le=MAX_TOP_K)] | None = Field(
        default=None, description="Most passages that the answer may go by; the default is 5."
    )
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="The least confidence with which there is an answer; the default is the one"
        " that was measured to be right.",
    )
    preferences: Preferences | None = None

    def passages(self) -> PassageOptions:
        """Return which passages the answer may go by."""
        if self.top_k is None:
            return PassageOptions(threshold=self.threshold)
        return PassageOptions(top_k=self.top_k, threshold=self.threshold)


class DocumentsAnswer(BaseModel):
    """The answer, whose marks such as [1] count the sources; none are there where it declines."""

    answer: str
    sources: list[SourceAnswer]
    confidence: float | None
    status: Literal["success", "partial"]
    failed_steps: list[FailedStepAnswer]
    request_id: str

"""The body of POST /api/feedback, and its answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

_SCORES = {"up": 1.0, "down": -1.0}


class FeedbackRequest(BaseModel):
    """What a caller thinks of the answer to one of its requests."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    request_id: str = Field(
        min_length=1, max_length=128, description="The X-Request-ID of the answer."
    )
    score: Literal["up", "down"] | Annotated[float, Field(ge=-1, le=1)] = Field(
        description="From -1 (bad) to 1 (good); up is 1, down is -1."
    )

    @property
    def number(self) -> float:
        """The score as a number."""
        return _SCORES[self.score] if isinstance(self.score, str) else self.score


class FeedbackAnswer(BaseModel):
    """The feedback as it is remembered."""

    request_id: str
    score: float

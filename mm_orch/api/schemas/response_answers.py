"""What answers of /v1/responses look like, for /openapi.json; responses_format.py writes them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mm_orch.api.schemas.answers import CachedTokens, ReasoningTokens

ItemState = Literal["in_progress", "completed", "incomplete"]


class OutputText(BaseModel):
    """The answer's text."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[Any]


class OutputMessage(BaseModel):
    """What the assistant says."""

    type: Literal["message"]
    id: str
    status: ItemState
    role: Literal["assistant"]
    content: list[OutputText]


class OutputCall(BaseModel):
    """A call of a function; ``arguments`` is JSON text."""

    type: Literal["function_call"]
    id: str
    call_id: str
    name: str
    arguments: str
    status: ItemState


class ThoughtText(BaseModel):
    """What the model thinks."""

    type: Literal["reasoning_text"]
    text: str


class OutputThought(BaseModel):
    """Thoughts before the answer."""

    type: Literal["reasoning"]
    id: str
    status: ItemState
    summary: list[Any]
    content: list[ThoughtText]


class IncompleteDetails(BaseModel):
    """Why the answer stops short."""

    reason: Literal["max_output_tokens"]


class ResponseUsage(BaseModel):
    """Tokens of a request."""

    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int
    output_tokens_details: ReasoningTokens
    total_tokens: int


class ResponseAnswer(BaseModel):
    """response."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["in_progress", "completed", "incomplete"]
    error: None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, Any]
    model: str
    output: list[OutputThought | OutputMessage | OutputCall]
    parallel_tool_calls: bool
    previous_response_id: None
    store: Literal[False]
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_p: float
    truncation: Literal["auto", "disabled"]
    usage: ResponseUsage | None
    user: str | None


class ResponseEvent(BaseModel):
    """One event; which other fields there are depends on its type."""

    model_config = ConfigDict(extra="allow")

    type: str
    sequence_number: int

"""What /api/query, /api/chat and /api/sessions answer, for /openapi.json."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from mm_orch.api.errors import ErrorEnvelope
from mm_orch.api.schemas.answers import FailedStepAnswer, UsageAnswer
from mm_orch.api.schemas.effects import EffectAnswer
from mm_orch.api.schemas.routing import RoutingAnswer


class RemarkAnswer(BaseModel):
    """What a step has decided or done, for people."""

    step: str
    message: str


class SourceAnswer(BaseModel):
    """A text that an answer goes by; of two scores the greater fits the question better."""

    content: str
    score: float
    metadata: dict[str, Any]


class QueryMetadata(BaseModel):
    """Who answered, what it took, and what is missing.

    ``routing`` says what was chosen of what the query left open, and why.
    ``processing_time`` is in seconds; ``confidence`` is null and ``sources`` is empty where the
    workflow does not tell them, ``reasoning`` is null where the model has not thought aloud.
    ``calibrated`` says that ``confidence`` was fitted to answers of this model: false where it is
    not the model's own, null where there is none. ``unsure`` says that the model's own is below
    what the operator calls unsure; else it is null.
    """

    model: str
    engine: str
    routing: RoutingAnswer
    confidence: float | None
    calibrated: bool | None
    unsure: bool | None
    processing_time: float
    sources: list[SourceAnswer]
    reasoning: str | None
    finish_reason: Literal["stop", "length", "tool_calls"]
    usage: UsageAnswer
    session_id: str | None
    turn_count: int | None
    failed_steps: list[FailedStepAnswer]
    skipped_steps: list[str]
    remarks: list[RemarkAnswer]
    effects: list[EffectAnswer]


class QueryAnswer(BaseModel):
    """The result; partial where steps that it can do without have failed."""

    result: str
    workflow_type: str
    status: Literal["success", "partial"]
    metadata: QueryMetadata
    request_id: str


class FailedQuery(ErrorEnvelope):
    """There is no result; its status in HTTP, or its place in a stream, is that of every error.

    ``workflow_type`` is ``auto`` where the query named none and failed before its run began.
    """

    status: Literal["failed"]
    workflow_type: str
    request_id: str


class StepEvent(BaseModel):
    """An event ``step``: what has become of a step; ``duration_s`` since it began."""

    step: str
    status: Literal["started", "ended", "retried", "failed", "skipped"]
    duration_s: float | None
    message: str


class ThoughtEvent(BaseModel):
    """An event ``thought``: before it answers, the model thinks this; no part of the result."""

    text: str


class PieceEvent(BaseModel):
    """An event ``piece``: the result goes on with this text."""

    text: str


class MessageAnswer(BaseModel):
    """The answer, and the turn as it is stored."""

    response: str
    session_id: str
    turn_count: int
    message_id: str


class SessionAnswer(BaseModel):
    """A stored session in short; moments are seconds since 1970."""

    session_id: str
    turn_count: int
    created_at: float
    updated_at: float


class SessionList(BaseModel):
    """The caller's sessions, the one that changed last first."""

    sessions: list[SessionAnswer]


class SessionMessage(BaseModel):
    """What one side said."""

    message_id: str
    role: Literal["user", "assistant"]
    content: str
    created_at: float


class WholeSessionAnswer(SessionAnswer):
    """A stored session."""

    messages: list[SessionMessage]


class ForgottenAnswer(BaseModel):
    """A session that is no longer stored."""

    session_id: str
    status: Literal["deleted"]


class ImportAnswer(BaseModel):
    """Sessions that were taken in, and those that were there already."""

    sessions_added: int
    sessions_known: int


class StepAnswer(BaseModel):
    """A step of a workflow; without an optional one there may still be a result."""

    name: str
    is_optional: bool


class WorkflowAnswer(BaseModel):
    """What a workflow does, and in which steps."""

    name: str
    summary: str
    steps: list[StepAnswer]


class WorkflowList(BaseModel):
    """All workflows."""

    workflows: list[WorkflowAnswer]

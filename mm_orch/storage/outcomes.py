"""What is remembered of a request that was answered or failed: measures, and no word of it."""

from __future__ import annotations

import msgspec


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one request ended.

    Attributes:
        request_id: whose outcome it is.
        owner: digest of who asked; see storage of feedback.
        workflow: that answered; empty where a model was asked by itself.
        model: that answered last; empty where none did.
        at_s: when it ended, seconds since 1970.
        is_success: it was answered, wholly or in part.
        latency_s: from its begin to its end.
        num_tokens: of prompts and answers.
        confidence: of the answer, 0 to 1; None where it was not measured.
        feedback: what the caller thought of it, -1 to 1; None where that was not said.
    """

    request_id: str
    owner: str
    workflow: str
    model: str
    at_s: float
    is_success: bool
    latency_s: float
    num_tokens: int
    confidence: float | None = None
    feedback: float | None = None

"""How errors look over HTTP: OpenAI's envelope, one status and type for each kind."""

from __future__ import annotations

import math

from pydantic import BaseModel
from starlette.responses import JSONResponse

from mm_orch.core.errors import (
    AuthenticationError,
    DeadlineError,
    DocumentNotFoundError,
    EngineError,
    ForbiddenError,
    ModelBusyError,
    ModelNotFoundError,
    MuAIError,
    NotServedError,
    OverloadError,
    PayloadTooLargeError,
    PoisonedRequestError,
    RateLimitError,
    RequestError,
    RequestNotFoundError,
    SessionNotFoundError,
    WorkflowLockedError,
    WorkflowNotFoundError,
)

# The first that fits counts, so the special stand before the general.
_STATUS_AND_TYPE: tuple[tuple[type[MuAIError], int, str], ...] = (
    (AuthenticationError, 401, "authentication_error"),
    (ForbiddenError, 403, "permission_error"),
    (ModelBusyError, 409, "conflict_error"),
    (ModelNotFoundError, 404, "not_found_error"),
    (WorkflowNotFoundError, 404, "not_found_error"),
    (SessionNotFoundError, 404, "not_found_error"),
    (DocumentNotFoundError, 404, "not_found_error"),
    (RequestNotFoundError, 404, "not_found_error"),
    # Not 409: OpenAI's clients send that again by themselves.
    (WorkflowLockedError, 403, "permission_error"),
    (NotServedError, 404, "not_found_error"),
    (PayloadTooLargeError, 413, "invalid_request_error"),
    (RateLimitError, 429, "rate_limit_error"),
    (RequestError, 400, "invalid_request_error"),
    (OverloadError, 503, "overloaded_error"),
    (DeadlineError, 504, "timeout_error"),
    (PoisonedRequestError, 500, "engine_error"),
    (EngineError, 503, "engine_error"),
    (MuAIError, 500, "server_error"),
)


class ErrorDetail(BaseModel):
    """What went wrong: in words, by kind, by stable code, and the field at fault."""

    message: str
    type: str
    code: str | None
    param: str | None


class ErrorEnvelope(BaseModel):
    """The body of every answer that is an error."""

    error: ErrorDetail


def status_of(error: MuAIError) -> int:
    """Return the HTTP status for this error."""
    return _classify(error)[0]


def envelope(error: MuAIError) -> dict[str, object]:
    """Return the body for this error."""
    param = error.param if isinstance(error, RequestError) else None
    return make_envelope(str(error), type_=_classify(error)[1], code=error.code, param=param)


def make_envelope(
    message: str, *, type_: str, code: str | None, param: str | None = None
) -> dict[str, object]:
    """Return a body in OpenAI's shape."""
    return {"error": {"message": message, "type": type_, "code": code, "param": param}}


def fault_envelope(request_id: str) -> dict[str, object]:
    """Return the body for a fault of ours: what it was stays in the log."""
    return make_envelope(
        f"The server failed; its log has the reason. Request {request_id}.",
        type_="server_error",
        code=MuAIError.code,
    )


def error_response(error: MuAIError, more: dict[str, object] | None = None) -> JSONResponse:
    """Return the whole answer for this error, with more beside the envelope where a path has it."""
    headers = {}
    if isinstance(error, OverloadError | RateLimitError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, PoisonedRequestError):
        # OpenAI's clients send what failed with 500 again by themselves, but for this.
        headers["x-should-retry"] = "false"
    if isinstance(error, AuthenticationError):
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(envelope(error) | (more or {}), status_of(error), headers)


def _classify(error: MuAIError) -> tuple[int, str]:
    for kind, status, type_ in _STATUS_AND_TYPE:
        if isinstance(error, kind):
            return status, type_
    raise AssertionError("the table ends with the root of all errors")

"""What can go wrong, once, with a stable code for each.

MuAIError
├── ConfigError             the configuration has faults (all of them, see ``faults``)
├── ModelStoreError         a model cannot be fetched, converted, found or removed
├── ServerStartError        the server cannot listen on its address
├── NoServerError           no running server answers where one is needed
├── StorageError            what is kept on disk cannot be read or written
├── SearchError             pages cannot be searched for or read (of one page: search.errors)
├── WorkflowError           a workflow's own code failed
│   └── GraphError              its steps do not fit together (all faults, see ``faults``)
├── RequestError            the caller's: never counts against an engine
│   ├── InvalidValueError       a field has a value that is not allowed
│   ├── ContextLengthError      the prompt does not fit the model's context
│   ├── UnsupportedError        the engine cannot do what the request asks
│   ├── ModelNotFoundError      no model has this name
│   ├── WorkflowNotFoundError   no workflow has this name
│   ├── SessionNotFoundError    the caller has no such session
│   ├── RequestNotFoundError    the caller has made no such request, or not recently
│   ├── WorkflowLockedError     the stage of development does not allow the workflow yet
│   ├── SessionLimitError       no more is stored: of a text, a session, or an owner's sessions
│   ├── DocumentNotFoundError   the caller has no such document
│   ├── DocumentLimitError      no more is stored: of a document, or of an owner's documents
│   ├── AuthenticationError     no key, or a wrong one
│   ├── ForbiddenError          the caller may not do this
│   ├── ModelBusyError          the model answers requests now
│   ├── NotServedError          what is asked for is switched off
│   ├── LiveChangeError         options cannot get these values now (``core.live_error``)
│   ├── PayloadTooLargeError    the body is over the limit
│   └── RateLimitError          the key is over its rate
├── OverloadError           the system's momentary state; ``retry_after_s`` says when to return
│   ├── QueueFullError          waiting requests are at ``server.queue_capacity``
│   ├── DrainingError           the server or the model is being drained
│   ├── DeadlineTooSoonError    too many wait for the request to be answered in its time
│   ├── StorageBusyError        another process has what is kept on disk
│   ├── StorageUnavailableError the database of what is kept cannot be reached
│   └── ModelUnavailableError   the model is loading too long, or its engine is restarting
├── DeadlineError           the request's time ran out
└── EngineError             the engine's: these alone move its circuit, but for those of its place
    ├── EngineStartError        it could not load the model
    │   └── NoPlaceError            the cluster has no place for it now (``core.place_errors``)
    ├── EngineCrashedError      its process ended while work was running
    │   ├── EngineHungError         it had work, made no step for too long, and was killed
    │   ├── DeviceLostError         what it computed on has failed
    │   └── NodeLostError           the machine that it ran on is lost (``core.place_errors``)
    ├── EngineOutOfMemoryError  it ran out of device or host memory
    ├── EngineFailedError       a step failed
    ├── FailoverError           an answer was cut off and cannot be finished elsewhere
    └── PoisonedRequestError    workers die of this request
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mm_orch.core.faults import Fault


class MuAIError(Exception):
    """Root of every error that this package raises on purpose.

    Args:
        message: what happened, naming the thing, the value, the limit and the valid choices.
        remedy: what the reader can do next, or None where the message says it already.
    """

    code: str = "internal_error"

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}" if self.remedy else self.message


def clause(error: BaseException) -> str:
    """Return a foreign error's words without the point at their end: a sentence of ours goes on."""
    return str(error).rstrip(" .\n")


class ConfigError(MuAIError):
    """The configuration is not valid; ``faults`` lists everything that is wrong with it."""

    code = "config_invalid"

    def __init__(self, faults: list[Fault]) -> None:
        count = f"{len(faults)} fault{'s' if len(faults) != 1 else ''}"
        lines = "\n".join(f"  {fault}" for fault in faults)
        super().__init__(f"The configuration has {count}:\n{lines}")
        self.faults = faults


class ModelStoreError(MuAIError):
    """A model cannot be fetched, converted, found on disk or removed."""

    code = "model_store"


class ServerStartError(MuAIError):
    """The server cannot listen on the address it was given."""

    code = "server_start"


class NoServerError(MuAIError):
    """No running server answers where one is needed."""

    code = "no_server"


class StorageError(MuAIError):
    """What is kept on disk cannot be read or written: damaged, full, or of a newer version."""

    code = "storage_failed"


class SearchError(MuAIError):
    """The web or the recorded corpus cannot be searched, or a page of it cannot be read."""

    code = "search_failed"


class WorkflowError(MuAIError):
    """A workflow's own code failed, or broke the rules of its graph."""

    code = "workflow_failed"


class GraphError(WorkflowError):
    """A workflow's steps do not fit together; ``faults`` lists everything that is wrong."""

    code = "workflow_invalid"

    def __init__(self, name: str, faults: list[str]) -> None:
        lines = "\n".join(f"  {fault}" for fault in faults)
        super().__init__(f"The workflow {name} cannot be run:\n{lines}")
        self.faults = faults


class RequestError(MuAIError):
    """The caller's error: retrying the same request fails the same way.

    Args:
        param: the request field at fault, as the caller spells it, or None.
    """

    code = "invalid_request"

    def __init__(
        self, message: str, *, param: str | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.param = param


class InvalidValueError(RequestError):
    """A request field has a value that is not allowed."""

    code = "invalid_value"


class ContextLengthError(RequestError):
    """Prompt and requested output do not fit the model's context."""

    code = "context_length_exceeded"


class UnsupportedError(RequestError):
    """The engine behind the model cannot do what the request asks."""

    code = "unsupported_feature"


class ModelNotFoundError(RequestError):
    """No configured model has this name or alias."""

    code = "model_not_found"


class WorkflowNotFoundError(RequestError):
    """No workflow has this name."""

    code = "workflow_not_found"


class SessionNotFoundError(RequestError):
    """The caller has no such session: it was never begun, was deleted, or is another's."""

    code = "session_not_found"


class RequestNotFoundError(RequestError):
    """The caller has made no such request, or it is forgotten, or another's."""

    code = "request_not_found"


class WorkflowLockedError(RequestError):
    """The workflow is of a later stage of development than the system has reached."""

    code = "workflow_locked"


class SessionLimitError(RequestError):
    """No more is stored: of one text, in one session, or of one owner."""

    code = "session_limit"


class DocumentNotFoundError(RequestError):
    """The caller has no such document: it was never stored, was deleted, or is another's."""

    code = "document_not_found"


class DocumentLimitError(RequestError):
    """No more is stored: of one document, or of one owner."""

    code = "document_limit"


class AuthenticationError(RequestError):
    """No API key was given, or it is not one of the configured keys."""

    code = "invalid_api_key"


class ForbiddenError(RequestError):
    """The caller may not do this: it needs an admin's right."""

    code = "admin_required"


class ModelBusyError(RequestError):
    """The model answers requests now, so it is not unloaded."""

    code = "model_busy"


class NotServedError(RequestError):
    """The path is there, but what it would tell is switched off in the configuration."""

    code = "not_served"


class PayloadTooLargeError(RequestError):
    """The request body is larger than ``api.max_request_bytes``."""

    code = "request_too_large"


class RateLimitError(RequestError):
    """The caller sent more requests per minute than it may.

    Args:
        retry_after_s: seconds until the next request is allowed.
    """

    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OverloadError(MuAIError):
    """The system cannot take the request now; it is nobody's fault.

    Args:
        retry_after_s: seconds after which a retry is likely to be served.
    """

    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


class QueueFullError(OverloadError):
    """As many requests wait as ``server.queue_capacity`` allows."""

    code = "queue_full"


class DrainingError(OverloadError):
    """The server or the model takes no new requests, because it is to stop."""

    code = "draining"


class DeadlineTooSoonError(OverloadError):
    """As fast as requests leave now, this one's turn would come after its deadline."""

    code = "deadline_too_soon"


class StorageBusyError(OverloadError):
    """Another process is writing what is kept on disk, for longer than a call waits."""

    code = "storage_busy"


class StorageUnavailableError(OverloadError):
    """The database that keeps things for several servers cannot be reached or used now."""

    code = "storage_unavailable"


class ModelUnavailableError(OverloadError):
    """The model's engine is not running now: still loading, or restarting after a crash."""

    code = "model_unavailable"


class DeadlineError(MuAIError):
    """The request's deadline passed before it was complete."""

    code = "deadline_exceeded"


class EngineError(MuAIError):
    """The engine's error, never the caller's."""

    code = "engine_error"


class EngineStartError(EngineError):
    """The engine could not load the model; the message carries its last log lines."""

    code = "engine_start_failed"


class EngineCrashedError(EngineError):
    """The engine's process ended while it had work.

    Args:
        num_lost: requests that it was answering, this one among them; 0 where it had none yet.
    """

    code = "engine_crashed"

    def __init__(self, message: str, *, num_lost: int = 0, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.num_lost = num_lost


class EngineHungError(EngineCrashedError):
    """The engine had work, made no step for too long, and was killed."""

    code = "engine_hung"


class DeviceLostError(EngineCrashedError):
    """What the engine computed on has failed: its process was ended, or ended of that."""

    code = "device_lost"


class EngineOutOfMemoryError(EngineError):
    """The engine ran out of device or host memory."""

    code = "engine_out_of_memory"


class EngineFailedError(EngineError):
    """A step of the engine raised."""

    code = "engine_failed"


class FailoverError(EngineError):
    """An answer was cut off, and what has been delivered cannot be continued elsewhere."""

    code = "failover_failed"


class PoisonedRequestError(EngineError):
    """Workers died while they answered this request and no other: it is not tried again."""

    code = "request_poisoned"

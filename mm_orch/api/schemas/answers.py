"""What successful answers look like, for /openapi.json; formats.py writes them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mm_orch.api.schemas.effects import EffectAnswer
from mm_orch.api.schemas.routing import RoutingAnswer


class CachedTokens(BaseModel):
    """Prompt tokens that need not be computed."""

    cached_tokens: int


class ReasoningTokens(BaseModel):
    """Generated tokens that are thoughts."""

    reasoning_tokens: int


class UsageAnswer(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens
    completion_tokens_details: ReasoningTokens


class TokenAlternative(BaseModel):
    """A token and how likely it was."""

    token: str
    bytes: list[int]
    logprob: float


class ToldToken(TokenAlternative):
    """The chosen token and its alternatives."""

    top_logprobs: list[TokenAlternative]


class ChatLogprobs(BaseModel):
    """Log probabilities of an answer's tokens."""

    content: list[ToldToken]
    refusal: None


class AnswerFunction(BaseModel):
    """A function that is called; ``arguments`` is JSON text, in chunks a piece of it."""

    name: str
    arguments: str


class AnswerCall(BaseModel):
    """A call of a function."""

    id: str
    type: Literal["function"]
    function: AnswerFunction


class AnswerMessage(BaseModel):
    """What the assistant says, after what it thinks; no content where it only calls."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str = ""
    tool_calls: list[AnswerCall] = []


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class FunctionDelta(BaseModel):
    """The name, once, or a piece of the arguments."""

    name: str = ""
    arguments: str


class CallDelta(BaseModel):
    """What a chunk adds to a call; the first names it."""

    index: int
    id: str = ""
    type: Literal["function"] = "function"
    function: FunctionDelta


class ChatDelta(BaseModel):
    """What a chunk adds to an answer."""

    role: Literal["assistant"] = "assistant"
    content: str = ""
    reasoning_content: str = ""
    tool_calls: list[CallDelta] = []


class ChunkChoice(BaseModel):
    """A piece of one answer; the last has the reason of the end."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"] | None


class FailoverNote(BaseModel):
    """A worker was lost while it answered; ``to`` went on after the delivered tokens."""

    model_config = ConfigDict(serialize_by_alias=True)

    from_engine: str = Field(alias="from")
    to: str
    delivered_tokens: int
    reason: str


class FailedStepAnswer(BaseModel):
    """A step that the result is without, and why."""

    step: str
    message: str


class OwnNote(BaseModel):
    """What is told beyond OpenAI's fields; each only where there is something to tell."""

    failovers: list[FailoverNote] | None = None
    routing: RoutingAnswer | None = None
    effects: list[EffectAnswer] | None = None
    failed_steps: list[FailedStepAnswer] | None = None


class ChatChunk(BaseModel):
    """chat.completion.chunk; one without choices tells the usage, where that was asked for."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: UsageAnswer | None = None
    muai: OwnNote | None = None


class ChatAnswer(BaseModel):
    """chat.completion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageAnswer
    muai: OwnNote | None = None


class CompletionLogprobs(BaseModel):
    """Log probabilities in the older shape: one list a property."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One continuation."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"]


class CompletionChunkChoice(CompletionChoice):
    """A piece of one continuation; the last has the reason of the end."""

    finish_reason: Literal["stop", "length"] | None  # type: ignore[assignment]  # not known before


class CompletionChunk(BaseModel):
    """text_completion in pieces; one without choices tells the usage, where that was asked for."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChunkChoice]
    usage: UsageAnswer | None = None
    muai: OwnNote | None = None


class CompletionAnswer(BaseModel):
    """text_completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageAnswer
    muai: OwnNote | None = None


class ModelAnswer(BaseModel):
    """One model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    task: Literal["generate", "embed"]
    aliases: list[str]
    phase: str
    engine: str | None
    dtype: str | None
    context_length: int | None
    dimensions: int | None


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"]
    data: list[ModelAnswer]


class LiveAnswer(BaseModel):
    """The event loop runs."""

    status: Literal["alive"]


class ReadyAnswer(BaseModel):
    """Whether a request sent now would be served."""

    status: Literal["ready", "not_ready"]
    reason: str


class EngineAnswer(BaseModel):
    """Whether an engine can run here; if not, why, and what would change that."""

    engine: str
    is_available: bool
    reason: str
    remedy: str


class EndpointAnswer(BaseModel):
    """One of the servers elsewhere that run a model."""

    address: str
    state: Literal["joining", "ready", "failed", "leaving"]
    detail: str
    circuit: str
    num_running: int
    num_queued_tokens: int
    num_held_tokens: int


class HealthAnswer(BaseModel):
    """The system in short."""

    status: Literal["healthy", "degraded", "unhealthy"]
    degradation_reasons: list[str]
    uptime_seconds: float
    models_loaded: list[str]
    engines_available: list[str]
    engines: list[EngineAnswer]
    queue_size: int
    queue_capacity: int
    version: str
    endpoints: dict[str, list[EndpointAnswer]]


class ModelHealthAnswer(BaseModel):
    """One model's worker in short."""

    name: str
    status: Literal["unloaded", "loading", "ready", "restarting", "failed", "stuck"]
    detail: str
    engine: str | None
    seconds_without_step: float | None
    num_restarts: int
    endpoints: list[EndpointAnswer]


class StatusAnswer(BaseModel):
    """Everything that --status prints."""

    health: HealthAnswer
    is_ready: bool
    not_ready_because: str
    engines: list[EngineAnswer]
    models: list[dict[str, Any]]
    default_model: str
    num_running: int
    num_waiting: int
    is_draining: bool
    requests_per_second: float | None
    alerts: list[dict[str, Any]] | None
    tuner: dict[str, Any] | None


class ReleaseAnswer(BaseModel):
    """A conversation's KV memory is free, or will be when its running turns end."""

    conversation_id: str
    status: Literal["released"]


class StandInAnswer(BaseModel):
    """The second engine of a model, for requests that its own engine cannot do."""

    phase: Literal["loading", "ready", "restarting", "failed", "stuck"]
    engine: str | None
    detail: str
    dtype: str | None
    worker_pid: int | None
    memory_bytes: int | None


class NativeModelAnswer(BaseModel):
    """One model and the worker that runs it."""

    name: str
    aliases: list[str]
    source: str
    phase: Literal["unloaded", "loading", "ready", "restarting", "failed", "stuck"]
    engine: str | None
    detail: str
    memory_bytes: int | None
    circuits: dict[str, str]
    is_draining: bool
    max_batch_size: int | None
    in_force: dict[str, Any] | None
    kv_target_bytes: int | None
    kv_actual_bytes: int | None
    stand_in: StandInAnswer | None
    endpoints: list[EndpointAnswer]


class NativeModelList(BaseModel):
    """All models."""

    models: list[NativeModelAnswer]


class DrainAnswer(BaseModel):
    """Whether the server takes requests."""

    status: Literal["draining", "serving"]


class LoadAnswer(BaseModel):
    """What has become of a model."""

    name: str
    status: str

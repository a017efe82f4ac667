"""The body of POST /v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mm_orch.api.schemas.sampling import MAX_ALTERNATIVES, SamplingFields
from mm_orch.core.errors import InvalidValueError
from mm_orch.core.generation import ChatPrompt, GenerationRequest, Message

_MAX_MESSAGES = 10_000
_NOT_YET = "Not built in this version yet."


class TextPart(BaseModel):
    """A piece of text; pictures and sound are not understood."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: str


class PlainFormat(BaseModel):
    """Free text, the only format of this version."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]


Content = str | Annotated[list[TextPart], Field(min_length=1)]


class GivenMessage(BaseModel):
    """What is said to the model."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "developer", "user"]
    content: Content
    name: str | None = Field(None, description="Accepted, not used.")

    def as_message(self) -> Message:
        """Return the turn in our own words."""
        # Models know one word for what is said to them from above.
        role = "system" if self.role == "developer" else self.role
        return Message(role=role, content=_text_of(self.content))


class AssistantMessage(BaseModel):
    """What the model said before."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["assistant"]
    content: Content | None = None
    name: str | None = Field(None, description="Accepted, not used.")
    refusal: str | None = Field(None, description="Accepted, not used.")
    annotations: list[Any] | None = Field(None, description="Accepted, not used.")
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = Field(None, description=_NOT_YET)
    function_call: None = Field(None, description=_NOT_YET)
    audio: None = Field(None, description=_NOT_YET)

    def as_message(self) -> Message:
        """Return the turn in our own words."""
        return Message(role=self.role, content=_text_of(self.content or ""))


def _drop_discriminator(schema: dict[str, Any]) -> None:
    # The branches' own roles say it already, and tools take several roles of a branch amiss.
    schema.pop("discriminator", None)


ChatMessage = Annotated[
    GivenMessage | AssistantMessage,
    Field(discriminator="role", json_schema_extra=_drop_discriminator),
]


def _text_of(content: Content) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


class ChatRequest(SamplingFields):
    """A conversation to be answered."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=_MAX_MESSAGES)
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Another name of max_tokens."
    )
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] | None = Field(
        None, description="Alternatives a token; needs logprobs."
    )
    response_format: PlainFormat | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = Field(None, description=_NOT_YET)
    tool_choice: Literal["none", "auto"] | None = Field(
        None, description="Tools are not built in this version yet."
    )
    parallel_tool_calls: bool | None = Field(None, description="Accepted, not used.")
    functions: None = Field(None, description=_NOT_YET)
    function_call: None = Field(None, description=_NOT_YET)
    modalities: list[Literal["text"]] | None = Field(
        None, description="Anything but text is not built in this version yet."
    )
    audio: None = Field(None, description=_NOT_YET)
    prediction: None = Field(None, description=_NOT_YET)
    reasoning_effort: None = Field(None, description=_NOT_YET)
    verbosity: None = Field(None, description=_NOT_YET)
    web_search_options: None = Field(None, description=_NOT_YET)

    def as_requests(self, request_id: str) -> list[GenerationRequest]:
        """Return what is to be generated.

        Raises:
            InvalidValueError: fields that contradict each other.
        """
        if self.max_tokens and self.max_completion_tokens not in {None, self.max_tokens}:
            raise InvalidValueError(
                f"max_tokens is {self.max_tokens} and max_completion_tokens is"
                f" {self.max_completion_tokens}; give one of them.",
                param="max_completion_tokens",
            )
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidValueError(
                f"top_logprobs is {self.top_logprobs}, which needs logprobs: true.",
                param="top_logprobs",
            )
        num_logprobs = (self.top_logprobs or 0) if self.logprobs else None
        request = GenerationRequest(
            request_id=request_id,
            prompt=ChatPrompt(tuple(message.as_message() for message in self.messages)),
            model=None if self.model == "auto" else self.model,
            options=self.options(
                max_tokens=self.max_completion_tokens or self.max_tokens,
                num_logprobs=num_logprobs,
            ),
            timeout_s=self.timeout_s,
            max_tokens_param=(
                "max_completion_tokens" if self.max_completion_tokens else "max_tokens"
            ),
        )
        return [request]

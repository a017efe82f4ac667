"""The body of POST /v1/chat/completions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mm_orch.api.schemas.response_format import (
    JsonSchemaFormat,
    ResponseFormat,
    drop_discriminator,
    make_shape,
)
from mm_orch.api.schemas.sampling import MAX_ALTERNATIVES, SamplingFields
from mm_orch.api.schemas.tools import (
    MAX_TOOLS,
    FunctionTool,
    GivenToolCall,
    NamedTool,
    ToolMode,
    make_tool_use,
)
from mm_orch.core.errors import InvalidValueError
from mm_orch.core.generation import ChatPrompt, GenerationRequest, Message

if TYPE_CHECKING:
    from mm_orch.core.guide import JsonObjectShape, JsonSchemaShape

_MAX_MESSAGES = 10_000
_SCHEMA_PARAM = "response_format.json_schema.schema"
_TOOL_PARAM = "tools.{index}.function.parameters"
_NOT_YET = "Not built in this version yet."


class TextPart(BaseModel):
    """A piece of text; pictures and sound are not understood."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: str


Content = str | Annotated[list[TextPart], Field(min_length=1)]


class GivenMessage(BaseModel):
    """What is said to the model."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "developer", "user"]
    content: Content
    name: str | None = Field(None, description="Accepted, not used.")

    def as_message(self, param: str) -> Message:
        """Return the turn in our own words; ``param`` is where it stands in the request."""
        del param
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
    reasoning_content: str | None = Field(
        None, description="Accepted, not used: models are not shown their earlier thoughts."
    )
    tool_calls: Annotated[list[GivenToolCall], Field(max_length=MAX_TOOLS)] | None = None
    function_call: None = Field(None, description=_NOT_YET)
    audio: None = Field(None, description=_NOT_YET)

    def as_message(self, param: str) -> Message:
        """Return the turn in our own words; ``param`` is where it stands in the request."""
        return Message(
            role=self.role,
            content=_text_of(self.content or ""),
            tool_calls=tuple(
                call.as_call(f"{param}.tool_calls.{index}")
                for index, call in enumerate(self.tool_calls or ())
            ),
        )


class ToolMessage(BaseModel):
    """What came of a call."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["tool"]
    content: Content
    tool_call_id: Annotated[str, Field(min_length=1, max_length=200)]
    name: str | None = Field(None, description="Accepted, not used.")

    def as_message(self, param: str) -> Message:
        """Return the turn in our own words; ``param`` is where it stands in the request."""
        del param
        return Message(
            role=self.role, content=_text_of(self.content), tool_call_id=self.tool_call_id
        )


ChatMessage = Annotated[
    GivenMessage | AssistantMessage | ToolMessage,
    Field(discriminator="role", json_schema_extra=drop_discriminator),
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
    response_format: ResponseFormat | None = Field(
        None, description="What the answer must look like."
    )
    tools: Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS)] | None = Field(
        None, description="Functions that the model may call."
    )
    tool_choice: ToolMode | NamedTool | None = Field(
        None, description="Whether it calls one; the default is as it likes."
    )
    parallel_tool_calls: bool | None = Field(
        None, description="Whether it may call several at once, as by default."
    )
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
        request = GenerationRequest(
            request_id=request_id,
            prompt=self._prompt(),
            model=self.model,
            options=self.options(
                max_tokens=self.max_completion_tokens or self.max_tokens,
                num_logprobs=(self.top_logprobs or 0) if self.logprobs else None,
                guide=self._shape(),
            ),
            timeout_s=self.timeout_s,
            max_tokens_param=(
                "max_completion_tokens" if self.max_completion_tokens else "max_tokens"
            ),
            guide_param=(
                _SCHEMA_PARAM
                if isinstance(self.response_format, JsonSchemaFormat)
                else "response_format"
            ),
            tool_param=_TOOL_PARAM,
        )
        return [request]

    def _prompt(self) -> ChatPrompt:
        choice = self.tool_choice
        return ChatPrompt(
            tuple(
                message.as_message(f"messages.{index}")
                for index, message in enumerate(self.messages)
            ),
            make_tool_use(
                [tool.function.as_tool() for tool in self.tools or ()],
                choice=None if isinstance(choice, NamedTool) else choice,
                name=choice.function.name if isinstance(choice, NamedTool) else None,
                is_parallel=self.parallel_tool_calls,
                tool_param=_TOOL_PARAM,
            ),
        )

    def _shape(self) -> JsonSchemaShape | JsonObjectShape | None:
        form = self.response_format
        if form is None:
            return None
        schema = form.json_schema.schema_ if isinstance(form, JsonSchemaFormat) else None
        return make_shape(form.type, schema, _SCHEMA_PARAM)

"""The body of POST /v1/responses: stateless, so the whole conversation comes as input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mm_orch.api.schemas.response_format import (
    JsonObjectFormat,
    PlainFormat,
    drop_discriminator,
    make_shape,
)
from mm_orch.api.schemas.sampling import CallFields, Off
from mm_orch.api.schemas.tools import (
    MAX_TOOLS,
    Description,
    Function,
    FunctionName,
    Name,
    ToolMode,
    make_call,
    make_tool_use,
)
from mm_orch.core.errors import UnsupportedError
from mm_orch.core.generation import ChatPrompt, GenerationRequest, Message
from mm_orch.workflows.call import WORKFLOW_PREFIX

if TYPE_CHECKING:
    from mm_orch.core.guide import JsonObjectShape, JsonSchemaShape

_MAX_ITEMS = 10_000
_NOT_YET = "Not built in this version yet."
_UNUSED = "Accepted, not used."
_SCHEMA_PARAM = "text.format.schema"
_TOOL_PARAM = "tools.{index}.parameters"

ItemStatus = Literal["in_progress", "completed", "incomplete"]
CallId = Annotated[str, Field(min_length=1, max_length=200)]


class TextContent(BaseModel):
    """A piece of text."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["input_text", "output_text"]
    text: str
    annotations: list[Any] | None = Field(None, description=_UNUSED)
    logprobs: list[Any] | None = Field(None, description=_UNUSED)


ContentParts = Annotated[list[TextContent], Field(min_length=1)]


class MessageItem(BaseModel):
    """A turn of the conversation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | ContentParts
    id: str | None = Field(None, description=_UNUSED)
    status: ItemStatus | None = Field(None, description=_UNUSED)
    phase: str | None = Field(None, description=_UNUSED)


class CallItem(BaseModel):
    """A call that the model made before; ``arguments`` is JSON text of an object."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["function_call"]
    call_id: CallId
    name: Name
    arguments: str
    id: str | None = Field(None, description=_UNUSED)
    status: ItemStatus | None = Field(None, description=_UNUSED)


class OutcomeItem(BaseModel):
    """What came of a call."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["function_call_output"]
    call_id: CallId
    output: str | ContentParts
    id: str | None = Field(None, description=_UNUSED)
    status: ItemStatus | None = Field(None, description=_UNUSED)


class ThoughtItem(BaseModel):
    """What the model thought before; it is not shown it again."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["reasoning"]
    id: str | None = Field(None, description=_UNUSED)
    summary: list[Any] | None = Field(None, description=_UNUSED)
    content: list[Any] | None = Field(None, description=_UNUSED)
    encrypted_content: None = Field(None, description=_NOT_YET)
    status: ItemStatus | None = Field(None, description=_UNUSED)


def _name_message(value: object) -> object:
    """Say of an item without a type that it is a message, as OpenAI has it."""
    if isinstance(value, dict) and "type" not in value:
        return {**value, "type": "message"}
    return value


InputItem = Annotated[
    MessageItem | CallItem | OutcomeItem | ThoughtItem,
    Field(discriminator="type", json_schema_extra=drop_discriminator),
    BeforeValidator(_name_message),
]


class SchemaTextFormat(BaseModel):
    """JSON that is valid under a schema."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["json_schema"]
    name: Name
    description: Description | None = Field(None, description=_UNUSED)
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = Field(
        None, description="Accepted, not used: answers are always kept to the schema."
    )


class TextSettings(BaseModel):
    """What the text of the answer must look like."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: (
        Annotated[
            PlainFormat | JsonObjectFormat | SchemaTextFormat,
            Field(discriminator="type", json_schema_extra=drop_discriminator),
        ]
        | None
    ) = None
    verbosity: None = Field(None, description=_NOT_YET)


class FlatFunctionTool(Function):
    """A function that the model may call."""

    type: Literal["function"]


class FlatNamedTool(FunctionName):
    """The function that must be called."""

    type: Literal["function"]


class ResponseStreamOptions(BaseModel):
    """What a stream holds besides its events."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_obfuscation: Off | None = Field(None, description="Not built: events are never padded.")


class ResponsesRequest(CallFields):
    """A conversation to be answered in OpenAI's newer words."""

    input: str | Annotated[list[InputItem], Field(min_length=1, max_length=_MAX_ITEMS)]
    instructions: str | None = Field(None, description="A system turn before all others.")
    max_output_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Most tokens to generate."
    )
    text: TextSettings | None = None
    tools: Annotated[list[FlatFunctionTool], Field(max_length=MAX_TOOLS)] | None = Field(
        None, description="Functions that the model may call."
    )
    tool_choice: ToolMode | FlatNamedTool | None = Field(
        None, description="Whether it calls one; the default is as it likes."
    )
    parallel_tool_calls: bool | None = Field(
        None, description="Whether it may call several at once, as by default."
    )
    stream_options: ResponseStreamOptions | None = None
    store: bool | None = Field(None, description="Answers are never stored: false, or nothing.")
    previous_response_id: str | None = Field(
        None, description="Answers are never stored: send the earlier turns as input."
    )
    truncation: Literal["disabled"] | None = Field(
        None, description="What does not fit the context is refused."
    )
    include: Annotated[list[Any], Field(max_length=0)] | None = Field(None, description=_NOT_YET)
    background: Off | None = Field(None, description=_NOT_YET)
    conversation: None = Field(None, description=_NOT_YET)
    reasoning: None = Field(None, description=_NOT_YET)
    prompt: None = Field(None, description=_NOT_YET)
    top_logprobs: None = Field(None, description=_NOT_YET)
    max_tool_calls: None = Field(None, description=_NOT_YET)
    prompt_cache_key: str | None = Field(None, description=_UNUSED)
    safety_identifier: str | None = Field(None, description=_UNUSED)

    def as_requests(self, request_id: str) -> list[GenerationRequest]:
        """Return what is to be generated.

        Raises:
            UnsupportedError: it builds on an answer that would have to be stored, or asks of a
                workflow what none promises.
            InvalidValueError: fields that contradict each other.
        """
        self._refuse_state()
        self._refuse_workflow()
        request = GenerationRequest(
            request_id=request_id,
            prompt=self._prompt(),
            model=self.model,
            options=self.options(max_tokens=self.max_output_tokens, guide=self._shape()),
            timeout_s=self.timeout_s,
            max_tokens_param="max_output_tokens",
            guide_param=(
                _SCHEMA_PARAM
                if self.text and isinstance(self.text.format, SchemaTextFormat)
                else "text.format"
            ),
            tool_param=_TOOL_PARAM,
        )
        return [request]

    def _refuse_workflow(self) -> None:
        if self.truncation and (self.model or "").startswith(WORKFLOW_PREFIX):
            raise UnsupportedError(
                f"truncation is {self.truncation}, but workflows may leave out the first turns of"
                " what is too long.",
                param="truncation",
                remedy="Leave it out, or ask a model.",
            )

    def _refuse_state(self) -> None:
        if self.store:
            raise UnsupportedError(
                "store is true, but answers are never stored.",
                param="store",
                remedy="Send store: false, or nothing, and keep the output yourself.",
            )
        if self.previous_response_id is not None:
            raise UnsupportedError(
                "previous_response_id is set, but answers are never stored.",
                param="previous_response_id",
                remedy="Send the earlier turns as input: its messages, then the output items of"
                " the answer, then the new message.",
            )

    def _prompt(self) -> ChatPrompt:
        choice = self.tool_choice
        return ChatPrompt(
            tuple(self._messages()),
            make_tool_use(
                [tool.as_tool() for tool in self.tools or ()],
                choice=None if isinstance(choice, FlatNamedTool) else choice,
                name=choice.name if isinstance(choice, FlatNamedTool) else None,
                is_parallel=self.parallel_tool_calls,
                tool_param=_TOOL_PARAM,
            ),
        )

    def _messages(self) -> list[Message]:
        messages = []
        if self.instructions:
            messages.append(Message(role="system", content=self.instructions))
        if isinstance(self.input, str):
            return [*messages, Message(role="user", content=self.input)]
        for index, item in enumerate(self.input):
            match item:
                case MessageItem():
                    role = "system" if item.role == "developer" else item.role
                    messages.append(Message(role=role, content=_text_of(item.content)))
                case CallItem():
                    _add_call(messages, item, param=f"input.{index}.arguments")
                case OutcomeItem():
                    messages.append(
                        Message(
                            role="tool",
                            content=_text_of(item.output),
                            tool_call_id=item.call_id,
                        )
                    )
                case ThoughtItem():
                    pass
        return messages

    def _shape(self) -> JsonSchemaShape | JsonObjectShape | None:
        form = self.text.format if self.text else None
        if form is None:
            return None
        schema = form.schema_ if isinstance(form, SchemaTextFormat) else None
        return make_shape(form.type, schema, _SCHEMA_PARAM)


def _add_call(messages: list[Message], item: CallItem, *, param: str) -> None:
    """Add a call to the turn of the assistant that is being put together, or to a new one."""
    call = make_call(item.call_id, item.name, item.arguments, param=param)
    last = messages.pop() if messages and messages[-1].role == "assistant" else None
    messages.append(
        Message(
            role="assistant",
            content=last.content if last else "",
            tool_calls=(*(last.tool_calls if last else ()), call),
        )
    )


def _text_of(content: str | list[TextContent]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)

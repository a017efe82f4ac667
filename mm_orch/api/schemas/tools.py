"""Functions in requests: those that are offered, those that were called, what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from mm_orch.core.errors import InvalidValueError
from mm_orch.core.tools import Tool, ToolCall, ToolChoice, ToolUse

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = r"^[A-Za-z0-9_-]{1,64}$"
MAX_TOOLS = 128
_MAX_DESCRIPTION_CHARS = 10_000

Name = Annotated[str, Field(pattern=NAME)]
Description = Annotated[str, Field(max_length=_MAX_DESCRIPTION_CHARS)]
ToolMode = Literal["none", "auto", "required"]


class Function(BaseModel):
    """A function that the model may call."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Name
    description: Description | None = None
    parameters: dict[str, Any] | None = Field(
        None, description="JSON schema of an object; none for a function without arguments."
    )
    strict: bool | None = Field(
        None, description="Refuse a schema that arguments cannot be kept to in every point."
    )

    def as_tool(self) -> Tool:
        """Return the function in our own words."""
        return Tool(
            name=self.name,
            description=self.description or "",
            parameters=self.parameters,
            is_strict=bool(self.strict),
        )


class FunctionTool(BaseModel):
    """A tool of the one kind there is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["function"]
    function: Function


class FunctionName(BaseModel):
    """Names a function."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Name


class NamedTool(BaseModel):
    """The function that must be called."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["function"]
    function: FunctionName


class CalledFunction(BaseModel):
    """A function that was called; ``arguments`` is JSON text of an object."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Name
    arguments: str


class GivenToolCall(BaseModel):
    """A call that the model made before."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Annotated[str, Field(min_length=1, max_length=200)]
    type: Literal["function"]
    function: CalledFunction

    def as_call(self, param: str) -> ToolCall:
        """Return the call in our own words; ``param`` is where it stands in the request."""
        return make_call(
            self.id,
            self.function.name,
            self.function.arguments,
            param=f"{param}.function.arguments",
        )


def make_call(call_id: str, name: str, arguments: str, *, param: str) -> ToolCall:
    """Return a call, with its arguments read.

    Raises:
        InvalidValueError: they are no JSON object.
    """
    try:
        return ToolCall(
            id=call_id, name=name, arguments=msgspec.json.decode(arguments, type=dict[str, Any])
        )
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidValueError(f"{param} is no JSON object: {error}.", param=param) from error


def make_tool_use(
    tools: Sequence[Tool],
    *,
    choice: ToolMode | None,
    name: str | None,
    is_parallel: bool | None,
    tool_param: str,
) -> ToolUse | None:
    """Return what the answer may call; None for nothing.

    Args:
        tools: those that are offered.
        choice: whether one is called; None means as the model likes.
        name: the one that must be called, or None.
        is_parallel: several may be called at once; None means yes.
        tool_param: how a tool's parameters are named; ``{index}`` stands for which.

    Raises:
        InvalidValueError: the fields contradict each other.
    """
    names = [tool.name for tool in tools]
    if twice := next((one for one in names if names.count(one) > 1), None):
        raise InvalidValueError(f"tools has two functions named {twice!r}.", param="tools")
    for index, tool in enumerate(tools):
        kind = (tool.parameters or {}).get("type", "object")
        if kind != "object":
            param = tool_param.format(index=index) + ".type"
            raise InvalidValueError(
                f"{param} is {str(kind)[:40]!r}; arguments are always an object.", param=param
            )
    if name is not None and name not in names:
        known = ", ".join(names) or "none"
        raise InvalidValueError(
            f"tool_choice names {name!r}, which is not among the tools: {known}.",
            param="tool_choice",
        )
    if choice == "required" and not tools:
        raise InvalidValueError("tool_choice is required, which needs tools.", param="tool_choice")
    if not tools:
        return None
    return ToolUse(
        tools=tuple(tools),
        choice=ToolChoice(choice or "auto") if name is None else ToolChoice.REQUIRED,
        name=name,
        is_parallel=is_parallel is not False,
    )

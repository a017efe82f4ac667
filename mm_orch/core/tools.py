"""Functions that a model may call, and calls that it made."""

from __future__ import annotations

import enum
from typing import Any

import msgspec


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the caller offers.

    Attributes:
        name: letters, digits, ``_`` and ``-``.
        parameters: JSON schema of an object: the arguments by name; None for no arguments.
        is_strict: arguments must be valid under exactly this schema.
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None
    is_strict: bool = False


class ToolChoice(enum.Enum):
    """Whether the model calls a function: not, as it likes, or in any case."""

    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"


class ToolUse(msgspec.Struct, frozen=True, kw_only=True):
    """Which functions the model may call.

    Attributes:
        tools: all of them, in the caller's order.
        choice: whether it calls any.
        name: the one that it must call, or None.
        is_parallel: it may call several in one answer.
    """

    tools: tuple[Tool, ...]
    choice: ToolChoice = ToolChoice.AUTO
    name: str | None = None
    is_parallel: bool = True


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that the model made in an earlier turn; ``arguments`` by name."""

    id: str
    name: str
    arguments: dict[str, Any]


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True):
    """News of one call of the answer.

    Attributes:
        index: which of the answer's calls.
        id: set once, with the name, before any arguments.
        name: set once.
        arguments: the next piece of the arguments' JSON text.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""

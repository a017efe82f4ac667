"""Conversations as chat templates take them, tools and calls included."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from mm_orch.core.generation import Message
from mm_orch.models.tool_formats import schema_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.core.tools import Tool, ToolCall
    from mm_orch.models.tool_formats import ToolFormat

Turn = dict[str, Any]

_INSTRUCTION = """\
You can call these functions, described in JSON, one a line:
{functions}
To call one, write its name and its arguments as JSON between tags, and nothing else:
{example}
The outcome of a call comes back between <tool_response> tags."""


def make_turns(messages: Sequence[Message], form: ToolFormat) -> list[Turn]:
    """Return the turns as templates take them; those without tools get texts alone."""
    if not form.is_native:
        messages = _write_out(messages, form)
    names_by_id = {call.id: call.name for message in messages for call in message.tool_calls}
    return [_make_turn(message, names_by_id) for message in messages]


def describe_tools(tools: Sequence[Tool]) -> list[Turn]:
    """Return the tools as templates take them."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": schema_of(tool),
            },
        }
        for tool in tools
    ]


def add_instruction(
    messages: Sequence[Message], tools: Sequence[Tool], form: ToolFormat
) -> list[Message]:
    """Tell of the tools in the first system turn, for templates that cannot."""
    functions = "\n".join(
        json.dumps(one["function"], ensure_ascii=False) for one in describe_tools(tools)
    )
    example = form.write_head("NAME").replace('"NAME"', "NAME") + "{...}}" + form.end
    text = _INSTRUCTION.format(functions=functions, example=example)
    if messages and messages[0].role == "system":
        first, *others = messages
        return [replace(first, content=f"{first.content}\n\n{text}"), *others]
    return [Message(role="system", content=text), *messages]


def _make_turn(message: Message, names_by_id: dict[str, str]) -> Turn:
    turn: Turn = {"role": message.role, "content": message.content}
    # Templates ask whether a key is there, not what it holds.
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
        if message.tool_call_id in names_by_id:
            turn["name"] = names_by_id[message.tool_call_id]
    return turn


def _write_out(messages: Sequence[Message], form: ToolFormat) -> list[Message]:
    """Write calls and their outcomes as text of the assistant and the user."""
    written: list[Message] = []
    is_outcome = False
    for message in messages:
        was_outcome, is_outcome = is_outcome, message.role == "tool"
        if is_outcome:
            text = f"<tool_response>\n{message.content}\n</tool_response>"
            if was_outcome:
                # Some templates want the roles to alternate.
                text = f"{written.pop().content}\n{text}"
            written.append(Message(role="user", content=text))
        elif message.tool_calls:
            calls = form.separator.join(_write_call(call, form) for call in message.tool_calls)
            text = f"{message.content}\n{calls}" if message.content else calls
            written.append(Message(role=message.role, content=text))
        else:
            written.append(message)
    return written


def _write_call(call: ToolCall, form: ToolFormat) -> str:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return f"{form.write_head(call.name)}{arguments}}}{form.end}"

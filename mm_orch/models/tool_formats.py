"""How models write that they call a function: a table of formats, chosen by the chat template."""

from __future__ import annotations

import json
import re
import secrets
import string
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mm_orch.core.guide import Tag, TagsShape
from mm_orch.core.tools import ToolChoice

if TYPE_CHECKING:
    from mm_orch.core.guide import JsonObjectShape, JsonSchemaShape
    from mm_orch.core.tools import Tool, ToolUse

_ALPHANUMERIC = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFormat:
    """One way to write calls: ``opening call (separator call)* closing``.

    A call is ``begin``, a JSON object with the name and the arguments, ``end``.

    Attributes:
        signs: a chat template that holds them all teaches this format ...
        counter_signs: ... unless it holds any of these.
        trigger: the mark that tells the first call from text; empty where there is none.
        arguments_key: of the arguments in the JSON object.
        id_length: characters of a call's id, where the template minds.
        is_single: the template knows one call an answer.
        is_native: the template takes tools; else the model is told of them in a system turn.
    """

    name: str
    signs: tuple[str, ...] = ()
    counter_signs: tuple[str, ...] = ()
    trigger: str = ""
    opening: str = ""
    begin: str = ""
    arguments_key: str = "arguments"
    end: str = ""
    separator: str = ""
    closing: str = ""
    id_length: int | None = None
    is_single: bool = False
    is_native: bool = True

    def write_head(self, name: str) -> str:
        """Write what stands before a call's arguments."""
        return f'{self.begin}{{"name": {json.dumps(name)}, "{self.arguments_key}": '

    def make_id(self) -> str:
        """Return a new call's id."""
        if self.id_length is None:
            return f"call_{secrets.token_hex(12)}"
        return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(self.id_length))


# Hermes 2 and 3, Qwen 2.5 and 3; but not those whose calls are tags all through (Qwen3-Coder, GLM).
_HERMES = ToolFormat(
    name="hermes",
    signs=("<tool_call>", "arguments"),
    counter_signs=("<function=", "<arg_key>"),
    trigger="<tool_call>",
    begin="<tool_call>\n",
    end="\n</tool_call>",
    separator="\n",
)
# Mistral up to its tokeniser v7; from v11 on a call is no JSON object.
_MISTRAL = ToolFormat(
    name="mistral",
    signs=("[TOOL_CALLS] [",),
    counter_signs=("[ARGS]",),
    trigger="[TOOL_CALLS]",
    opening="[TOOL_CALLS] [",
    separator=", ",
    closing="]",
    id_length=9,
)
TOOL_FORMATS = (
    _HERMES,
    _MISTRAL,
    replace(_MISTRAL, name="mistral-tight", signs=("[TOOL_CALLS][",), opening="[TOOL_CALLS]["),
    # Llama 3.1, 3.2 and 3.3: the answer is the bare object.
    ToolFormat(
        name="llama3",
        signs=('"parameters": dictionary',),
        arguments_key="parameters",
        is_single=True,
    ),
)
# Told to models whose templates teach none of these. The most widespread one.
GENERIC = replace(_HERMES, name="generic", is_native=False)


def find_tool_format(template_source: str) -> ToolFormat:
    """Return the format that the template teaches; the generic one where none of ours."""
    if not re.search(r"\btools\b", template_source):
        return GENERIC
    for form in TOOL_FORMATS:
        if all(sign in template_source for sign in form.signs) and not any(
            sign in template_source for sign in form.counter_signs
        ):
            return form
    return GENERIC


def make_tags_shape(
    use: ToolUse, form: ToolFormat, otherwise: JsonSchemaShape | JsonObjectShape | None
) -> TagsShape | None:
    """Return the shape of an answer that may or must call a tool.

    Args:
        use: which tools, and whether one must be called.
        form: how the model writes calls.
        otherwise: the shape of an answer that calls none; None for free text.

    Returns:
        None where calls cannot be told from text before they are complete.
    """
    is_required = use.choice is ToolChoice.REQUIRED
    if not is_required and otherwise is None and not form.trigger:
        return None
    tools = [tool for tool in use.tools if use.name in {None, tool.name}]
    return TagsShape(
        tags=tuple(make_tag(tool, use, form) for tool in tools),
        trigger=form.trigger,
        opening=form.opening,
        separator=form.separator,
        closing=form.closing,
        is_single=form.is_single or not use.is_parallel or use.name is not None,
        is_required=is_required,
        otherwise=None if is_required else otherwise,
    )


def make_tag(tool: Tool, use: ToolUse, form: ToolFormat) -> Tag:
    """Return the tag that is one call of this tool."""
    return Tag(
        begin=form.write_head(tool.name),
        schema=json.dumps(schema_of(tool)),
        end="}" + form.end,
        is_lenient=_is_lenient(tool, use),
    )


def schema_of(tool: Tool) -> dict[str, object]:
    """Return the schema of the tool's arguments, which are always an object."""
    if tool.parameters is None:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    return {**tool.parameters, "type": "object"}


def _is_lenient(tool: Tool, use: ToolUse) -> bool:
    """Whether keywords of the tool's schema may be passed over where they cannot be kept to."""
    # Who must call gets what the schema says, or a refusal; who may call gets what can be had.
    return not tool.is_strict and use.choice is not ToolChoice.REQUIRED

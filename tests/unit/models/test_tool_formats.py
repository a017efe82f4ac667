"""Which format a chat template teaches, and what a tool becomes in it."""

from __future__ import annotations

import json

import pytest

from mm_orch.core.guide import JsonObjectShape
from mm_orch.core.tools import Tool, ToolChoice, ToolUse
from mm_orch.models.tool_formats import (
    GENERIC,
    TOOL_FORMATS,
    ToolFormat,
    find_tool_format,
    make_tags_shape,
    schema_of,
)

# What the published templates have of their tools, in their own words.
QWEN = (
    "{%- if tools %}{{- '<|im_start|>system\\n# Tools\\nFor each function call, return a json"
    ' object within <tool_call></tool_call> XML tags:\\n<tool_call>\\n{\\"name\\":'
    ' <function-name>, \\"arguments\\": <args-json-object>}\\n</tool_call>\' }}{%- endif %}'
)
QWEN_CODER = (
    "{%- if tools %}<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>"
    " arguments </tool_call>{%- endif %}"
)
MISTRAL = (
    '{%- if tools %}{{- "[AVAILABLE_TOOLS] [" }}{%- endif %}'
    '{{- "[TOOL_CALLS] [" }}{%- if tool_call.id|length != 9 %}'
)
MISTRAL_TIGHT = '{%- if tools %}{%- endif %}{{- "[TOOL_CALLS][" }}'
MISTRAL_LATE = '{%- if tools %}{%- endif %}{{- "[TOOL_CALLS][" + name + "[ARGS]" }}'
LLAMA = (
    "{%- if not tools is defined %}{%- set tools = none %}{%- endif %}{{- 'Respond in the format"
    ' {"name": function name, "parameters": dictionary of argument name and its value}.\' }}'
)
PLAIN = "{% for message in messages %}{{ message.content }}{% endfor %}"

CITY = Tool(name="weather", parameters={"properties": {"city": {"type": "string"}}})
NOW = Tool(name="now")


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (QWEN, "hermes"),
        (QWEN_CODER, "generic"),
        (MISTRAL, "mistral"),
        (MISTRAL_TIGHT, "mistral-tight"),
        (MISTRAL_LATE, "generic"),
        (LLAMA, "llama3"),
        (PLAIN, "generic"),
        ("", "generic"),
    ],
)
def test_the_template_says_how_calls_are_written(template: str, name: str) -> None:
    assert find_tool_format(template).name == name


@pytest.mark.parametrize("form", [*TOOL_FORMATS, GENERIC], ids=lambda form: form.name)
def test_a_format_is_at_one_with_itself(form: ToolFormat) -> None:
    ids = {form.make_id() for _ in range(50)}

    assert (form.opening + form.begin).startswith(form.trigger)
    assert form.write_head("f").endswith(f'{{"name": "f", "{form.arguments_key}": ')
    assert len(ids) == 50
    assert form.id_length in {None, *map(len, ids)}


def test_arguments_are_always_an_object() -> None:
    assert schema_of(CITY)["type"] == "object"
    # Nothing is known of what it takes, so it takes nothing.
    assert schema_of(NOW)["additionalProperties"] is False


def test_a_must_is_strict_and_a_may_is_lenient_unless_it_says_otherwise() -> None:
    strict = Tool(name="s", is_strict=True)
    use = ToolUse(tools=(CITY, strict))
    must = ToolUse(tools=(CITY, strict), choice=ToolChoice.REQUIRED)

    may_shape, must_shape = (make_tags_shape(one, GENERIC, None) for one in (use, must))

    assert may_shape is not None
    assert must_shape is not None
    assert [tag.is_lenient for tag in may_shape.tags] == [True, False]
    assert [tag.is_lenient for tag in must_shape.tags] == [False, False]
    assert (may_shape.is_required, must_shape.is_required) == (False, True)


def test_a_named_tool_is_the_only_one_and_called_once() -> None:
    use = ToolUse(tools=(CITY, NOW), choice=ToolChoice.REQUIRED, name="now")

    shape = make_tags_shape(use, GENERIC, JsonObjectShape())

    assert shape is not None
    assert ['"now"' in tag.begin for tag in shape.tags] == [True]
    assert shape.is_single
    assert shape.otherwise is None
    assert json.loads(shape.tags[0].schema)["properties"] == {}


def test_one_call_at_a_time_is_a_single_tag() -> None:
    shapes = [
        make_tags_shape(ToolUse(tools=(NOW,), is_parallel=is_parallel), GENERIC, None)
        for is_parallel in (True, False)
    ]

    assert [shape.is_single for shape in shapes if shape] == [False, True]


def test_bare_objects_among_free_text_cannot_be_guided() -> None:
    llama = find_tool_format(LLAMA)

    assert make_tags_shape(ToolUse(tools=(NOW,)), llama, None) is None
    assert make_tags_shape(ToolUse(tools=(NOW,)), llama, JsonObjectShape()) is not None
    required = ToolUse(tools=(NOW,), choice=ToolChoice.REQUIRED)
    shape = make_tags_shape(required, llama, None)
    assert shape is not None
    assert shape.tags[0].begin == '{"name": "now", "parameters": '

"""Which guides are plain JSON, and what texts their grammars allow."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from mm_orch.core.guide import Guide, JsonObjectShape, JsonSchemaShape, Tag, TagsShape, ThoughtMarks
from mm_orch.models.plain_json import is_plain, write_plain_grammar
from tests.plain_schemas import find_grammar, to_pattern

STRING = {"type": "string"}
PERSON = {
    "type": "object",
    "properties": {"name": STRING, "age": {"type": "integer"}, "mail": STRING},
    "required": ["age"],
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
}
# What each of these asks for would be left out of the grammar.
NOT_PLAIN = [
    {"type": "string", "pattern": "^a"},
    {"type": "string", "format": "date"},
    {"type": "string", "maxLength": 9},
    {"type": "string", "minLength": 5, "maxLength": 4},
    {"type": "object", "properties": {f"p{n}": STRING | {"maxLength": n} for n in (3, 6, 8)}},
    {"type": "integer", "multipleOf": 3},
    {"type": "integer", "minimum": 0.5},
    {"type": "integer", "minimum": True},
    {"type": "integer", "minimum": 5, "maximum": 4},
    {"type": "number", "minimum": 0},
    {"type": ["integer", "number"], "minimum": 0},
    {"type": "array", "uniqueItems": True},
    {"type": "array", "maxItems": 129},
    {"type": "array", "prefixItems": [STRING]},
    {"type": "array", "items": [STRING]},
    {"type": "object", "minProperties": 1},
    {"type": "object", "required": ["a"]},
    {"type": "object", "properties": {"a": STRING}, "additionalProperties": True},
    {"type": "object", "properties": {"a": False}},
    {"properties": {"a": STRING}},
    {"allOf": [STRING]},
    {"oneOf": [STRING, {"type": "null"}]},
    {"not": STRING},
    {"anyOf": []},
    {"anyOf": [STRING], "type": "string"},
    {"enum": []},
    {"enum": [["a"]]},
    {"enum": ["a"], "type": "integer"},
    {"enum": ["x", 1, 2.5, True], "type": ["string", "number"]},
    {"const": "\U00040000"},
    {"const": "\ud800"},
    {"$ref": "#/$defs/missing"},
    {"$ref": "https://example.org/schema"},
    {"type": "whatever"},
    {"type": []},
    {"enum": ["a" * 6000]},
    {"minimum": 3},
    False,
    TREE,
]
# Schema, texts that its grammar allows, and texts that it does not.
TABLE: list[tuple[Any, list[str], list[str]]] = [
    (
        PERSON,
        ['{"age": 1}', '{ "name":"A", "age": -20,"mail": "" }', '{"age":0,"mail":"m"}'],
        [
            *("{}", '{"name": "A"}', '{"age": 1, "age": 2}', '{"age": 1,}', '{"age":  1}'),
            *('{"mail": "m", "age": 1}', '{"age": 1, "more": 2}', '{\n"age": 1}', '{"age": 01}'),
        ],
    ),
    (STRING | {"maxLength": 2}, ['""', '"é😀"', r'"\u000a\n"'], ['"abc"', '"', '"\n"', "a"]),
    (
        STRING,
        [r'"\u001f"', '"\ud7ff"'],
        [r'"\ud7ff"', r'"\ud83d\ude00"', r'"\x"', '"\x7f"', '"\ud800"'],
    ),
    (
        {"type": "array", "items": {"enum": ["a", 1, None]}, "minItems": 1, "maxItems": 3},
        ['["a"]', "[ 1, null,1 ]"],
        ["[]", "[1,1,1,1]", "[2]", "[1,]", "[,1]"],
    ),
    ({"type": "array", "maxItems": 1, "items": {"const": 5}}, ["[]", "[5]"], ["[5,5]", "5"]),
    ({"type": "array", "maxItems": 0}, ["[]", "[ ]"], ["[1]"]),
    ({"type": "number"}, ["-0.5e+10", "12"], ["01", ".5", "1.", "1e999", "NaN", "--1"]),
    ({"type": ["integer", "null"], "exclusiveMaximum": 3}, ["2", "null", "-9"], ["3", "nul"]),
    ({"type": "boolean", "title": "t", "default": True}, ["true", "false"], ["True", "0"]),
    ({"const": "\u00b80\x7f"}, ['"\u00b80\x7f"'], ['"\u0b80\x7f"']),
    ({"const": 'a"\\\n'}, [r'"a\"\\\n"'], ['"a"']),
    ({"type": "object"}, ['{"a": [1, {}], "b": null}', "{}"], ["[]", '{"a"}', "{a: 1}"]),
    ({"type": "object", "additionalProperties": False}, ["{}"], ['{"a":1}']),
    (
        {"type": "object", "additionalProperties": {"type": "integer"}},
        ['{"a": 1,"": 2}', "{ }"],
        ['{"a": "1"}', '{"a": 1,}'],
    ),
    ({}, ["1", '["a", {"b": true}]', '""'], ["", "x", "[1"]),
    (True, ["null"], [""]),
    (
        {
            "anyOf": [{"$ref": "#/definitions/a b"}, {"type": "null"}],
            "definitions": {"a b": PERSON},
        },
        ["null", '{"age": 3}'],
        ["3"],
    ),
]


@pytest.mark.parametrize("schema", NOT_PLAIN, ids=lambda schema: json.dumps(schema)[:60])
def test_what_the_grammar_would_not_say_is_not_plain(schema: object) -> None:
    assert find_grammar(schema) is None


@pytest.mark.parametrize(("schema", "good", "bad"), TABLE, ids=lambda of: json.dumps(of)[:50])
def test_the_grammar_allows_what_it_should(schema: object, good: list[str], bad: list[str]) -> None:
    grammar = find_grammar(schema)
    assert grammar is not None
    pattern = re.compile(to_pattern(grammar))

    assert [text for text in good if not pattern.fullmatch(text)] == []
    assert [text for text in bad if pattern.fullmatch(text)] == []


def test_any_object_is_plain_and_other_shapes_are_not() -> None:
    any_object = JsonObjectShape()

    assert write_plain_grammar(Guide(shape=any_object)) == find_grammar({"type": "object"})
    assert not is_plain(Guide(shape=any_object, thoughts=ThoughtMarks(begin="<t>", end="</t>")))
    assert not is_plain(Guide(shape=TagsShape(tags=(Tag(begin="", schema="{}", end=""),))))


def test_definitions_that_hold_each_other_twice_are_written_once() -> None:
    chain = {
        f"d{n}": {
            "type": "object",
            "properties": {key: {"$ref": f"#/$defs/d{n + 1}"} for key in "ab"},
        }
        for n in range(10)
    }
    schema = {"$ref": "#/$defs/d0", "$defs": chain | {"d10": STRING}}

    grammar = find_grammar(schema)

    assert grammar is not None
    assert len(grammar) < 4000


def test_schemas_nested_beyond_reason_are_not_plain() -> None:
    text = '{"type":"array","items":' * 5000 + "{}" + "}" * 5000

    assert not is_plain(Guide(shape=JsonSchemaShape(text)))

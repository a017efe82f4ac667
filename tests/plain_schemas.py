"""Schemas that are plain JSON, and their grammars as regular expressions."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from mm_orch.core.guide import Guide, JsonSchemaShape
from mm_orch.models.plain_json import write_plain_grammar

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_PIECES = re.compile(r'("(?:[^"\\]|\\.)*")|(\[(?:[^\]\\]|\\.)*\])|([a-z]\w*)|([(){}|*+?,\d])|\s+')
_LIMIT = 2**53 - 2
_NAMES = st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0x3FFFF), max_size=6)


def guide_of(schema: object) -> Guide:
    return Guide(shape=JsonSchemaShape(json.dumps(schema)))


def find_grammar(schema: object) -> str | None:
    return write_plain_grammar(guide_of(schema))


def to_pattern(grammar: str, depth: int = 2) -> str:
    """Return a regular expression of what the grammar allows, rules nested ``depth`` deep at most.

    Only rules that hold themselves are cut off.
    """
    bodies = dict(line.split(" ::= ", 1) for line in grammar.split("\n") if line)

    def expand(name: str, path: tuple[str, ...]) -> str:
        if path.count(name) > depth:
            return "(?!)"
        pattern = ""
        for literal, letters, rule, sign in _PIECES.findall(bodies[name]):
            if literal:
                pattern += f"(?:{re.escape(json.loads(literal))})"
            elif rule:
                pattern += expand(rule, (*path, name))
            else:
                pattern += letters or sign
        return f"(?:{pattern})"

    return expand("root", ())


def _bounded(kind: str, lower: str, upper: str, most: int) -> SearchStrategy[dict[str, Any]]:
    bounds = st.tuples(st.integers(0, most), st.integers(0, most)).map(sorted)
    return bounds.flatmap(
        lambda pair: st.sampled_from(
            [{lower: pair[0], upper: pair[1]}, {lower: pair[0]}, {upper: pair[1]}, {}]
        ).map(lambda limits: {"type": kind, **limits})
    )


def _ranges() -> SearchStrategy[dict[str, Any]]:
    ends = st.integers(-2000, 2000) | st.integers(-_LIMIT, _LIMIT)
    return st.tuples(ends, ends).flatmap(
        lambda pair: st.sampled_from(
            [
                {"minimum": min(pair), "maximum": max(pair)},
                {"exclusiveMinimum": min(pair) - 1, "exclusiveMaximum": max(pair) + 1},
                {"minimum": max(pair)},
                {"maximum": float(min(pair))},
            ]
        ).map(lambda limits: {"type": "integer", **limits})
    )


_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
) | _NAMES
_LEAVES = st.one_of(
    st.sampled_from(["string", "integer", "number", "boolean", "null"]).map(
        lambda kind: {"type": kind}
    ),
    _bounded("string", "minLength", "maxLength", 6),
    _ranges(),
    _SCALARS.map(lambda value: {"const": value}),
    st.lists(_SCALARS, min_size=1, max_size=4).map(lambda values: {"enum": values}),
    st.just({"type": ["string", "null", "integer"], "minimum": 3, "maxLength": 4}),
)


def _nested(inner: SearchStrategy[dict[str, Any]]) -> SearchStrategy[dict[str, Any]]:
    properties = st.dictionaries(_NAMES, inner, min_size=1, max_size=4)
    return st.one_of(
        st.tuples(_bounded("array", "minItems", "maxItems", 3), inner).map(
            lambda pair: {**pair[0], "items": pair[1]}
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda choices: {"anyOf": choices}),
        inner.map(lambda of: {"type": "object", "additionalProperties": of}),
        properties.flatmap(
            lambda of: st.sets(st.sampled_from(sorted(of))).map(
                lambda names: {"type": "object", "properties": of, "required": sorted(names)}
            )
        ),
    )


def plain_schemas() -> SearchStrategy[dict[str, Any]]:
    """Schemas that a grammar can be written for, unless it comes out too long."""
    return st.recursive(_LEAVES, _nested, max_leaves=6)

"""Says which guides are plain JSON, and writes those as grammars of xgrammar.

For engines whose library keeps to xgrammar's EBNF and has no way back from what it cannot read:
whatever is written here is made of few forms, each tried. The text stays on one line, with a blank
at most between its parts: free blanks are where small models get lost. An object has the
properties that its schema names, in their order, and no others.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mm_orch.core.guide import JsonObjectShape, JsonSchemaShape

if TYPE_CHECKING:
    from mm_orch.core.guide import Guide

MAX_GRAMMAR_CHARS = 6000
_MAX_DEPTH = 24
# Above that xgrammar counts in another way, and takes a hundred times as long for each token.
_MAX_ITEMS = 128
# It looks at the whole vocabulary for each character that a bounded string may have: 8 of them take
# 50 ms of a processor, 40 half a second, in which nobody gets a token.
_MAX_LENGTH = 8
_MAX_LENGTHS = 8
_MAX_DIGITS = 18
# Greater numbers are told from their neighbours by some libraries and not by others.
_EXACT = 2**53
_NUM_KEPT = 256
# The first character whose UTF-8 begins with a byte that vocabularies may lack.
_FIRST_RARE = "\U00040000"

_ANNOTATIONS = {
    *("title", "description", "$comment", "default"),
    *("examples", "deprecated", "readOnly", "writeOnly"),
}
_ROOT_KEYWORDS = frozenset(("$schema", "$defs", "definitions"))
_KEYWORDS_BY_TYPE = {
    "object": frozenset(("properties", "required", "additionalProperties")),
    "array": frozenset(("items", "minItems", "maxItems")),
    "string": frozenset(("minLength", "maxLength")),
    "integer": frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")),
    "number": frozenset(),
    "boolean": frozenset(),
    "null": frozenset(),
}
_SHARED_RULES = {
    # In pieces whose UTF-8 is of one form: xgrammar takes other bytes too in a range of several.
    # Only what cannot stand for itself is escaped, as in the grammars of the step backends.
    "char": r"[ !#-\[\]-~\u0080-\u07FF\u0800-\u0FFF\u1000-\uCFFF\uD000-\uD7FF\uE000-\uFFFF"
    r"\U00010000-\U0003FFFF\U00040000-\U000FFFFF\U00100000-\U0010FFFF]"
    r' | "\\" ["\\bfnrt] | "\\u00" [01] [0-9a-fA-F]',
    "string": r'"\"" char* "\""',
    "integer": f'"0" | "-"? [1-9] [0-9]{{0,{_MAX_DIGITS - 1}}}',
    "number": f'"-"? ("0" | [1-9] [0-9]{{0,{_MAX_DIGITS - 1}}})'
    f' ("." [0-9]{{1,{_MAX_DIGITS - 1}}})? ([eE] [-+]? [0-9]{{1,2}})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "value": "string | number | boolean | null | array | object",
    "array": '"[" " "? ("]" | value ("," " "? value)* " "? "]")',
    "member": 'string ":" " "? value',
    "object": '"{" " "? ("}" | member ("," " "? member)* " "? "}")',
}
_USES = {
    "string": ("char",),
    "value": ("string", "number", "boolean", "null", "array", "object"),
    "array": ("value",),
    "member": ("string", "value"),
    "object": ("member",),
}


class _NotPlainError(Exception):
    """The schema says something that is not written here."""


def is_plain(guide: Guide) -> bool:
    """Whether :func:`write_plain_grammar` writes this guide."""
    return write_plain_grammar(guide) is not None


@lru_cache(maxsize=_NUM_KEPT)
def write_plain_grammar(guide: Guide) -> str | None:
    """Return the guide as EBNF, or None where it is not plain JSON.

    What fits the grammar is valid under the schema, though not all that is valid fits. It also
    fits the grammar of models.grammar, so that a step backend can go on with it.
    """
    if guide.thoughts is not None:
        return None
    writer = _Writer()
    try:
        match guide.shape:
            case JsonObjectShape():
                root = writer.share("object")
            case JsonSchemaShape(text):
                schema = json.loads(text)
                root = writer.write_root(schema)
            case _:
                return None
    except (_NotPlainError, RecursionError):
        return None
    grammar = "\n".join([f"root ::= {root}", *writer.lines, ""])
    return grammar if len(grammar) <= MAX_GRAMMAR_CHARS else None


class _Writer:
    """Collects the rules of one grammar. Each ``write`` method returns what stands for a value."""

    def __init__(self) -> None:
        self._body_by_name: dict[str, str] = {}
        self._name_by_body: dict[str, str] = {}
        self._num_chars = 0
        # By reference: the schema, and what was written for it.
        self._definitions: dict[str, Any] = {}
        self._written: dict[str, str] = {}
        self._length_by_name: dict[str, int] = {}
        self._depth = 0

    @property
    def lines(self) -> list[str]:
        """The rules but for the first."""
        return [f"{name} ::= {body}" for name, body in self._body_by_name.items()]

    def share(self, name: str) -> str:
        """Use one of the rules that all grammars share."""
        if name not in self._body_by_name:
            self._body_by_name[name] = _SHARED_RULES[name]
            for used in _USES.get(name, ()):
                self.share(used)
        return name

    def write_root(self, schema: Any) -> str:
        if isinstance(schema, dict):
            for keyword in ("definitions", "$defs"):
                found = schema.get(keyword, {})
                _need(isinstance(found, dict))
                self._definitions |= {f"#/{keyword}/{name}": of for name, of in found.items()}
            schema = {key: of for key, of in schema.items() if key not in _ROOT_KEYWORDS}
        return self._write(schema)

    def _write(self, schema: Any) -> str:
        # Definitions that hold themselves come to an end here too.
        _need(self._depth < _MAX_DEPTH)
        self._depth += 1
        try:
            if schema is True:
                return self.share("value")
            _need(isinstance(schema, dict))
            return self._write_any({k: v for k, v in schema.items() if k not in _ANNOTATIONS})
        finally:
            self._depth -= 1

    def _write_any(self, schema: dict[str, Any]) -> str:
        match schema:
            case {"$ref": str(ref), **rest}:
                _need(not rest and ref in self._definitions)
                if ref not in self._written:
                    self._written[ref] = self._write(self._definitions[ref])
                return self._written[ref]
            case {"anyOf": list(choices), **rest}:
                _need(not rest)
                return self._choose([self._write(choice) for choice in choices])
            case {"const": value, **rest}:
                return self._choose(_write_literals([value], rest))
            case {"enum": list(values), **rest}:
                return self._choose(_write_literals(values, rest))
            case {"type": kinds}:
                kinds = kinds if isinstance(kinds, list) else [kinds]
                _need(all(isinstance(kind, str) and kind in _KEYWORDS_BY_TYPE for kind in kinds))
                known = frozenset[str]().union(*(_KEYWORDS_BY_TYPE[kind] for kind in kinds))
                _need(known >= schema.keys() - {"type"})
                return self._choose([self._write_kind(kind, schema) for kind in kinds])
            case _:
                _need(not schema)
                return self.share("value")

    def _write_kind(self, kind: str, schema: dict[str, Any]) -> str:
        match kind:
            case "object":
                return self._write_object(schema)
            case "array":
                return self._write_array(schema)
            case "string":
                return self._write_string(schema)
            case "integer" if len(schema) > 1:
                return self._choose(write_range(*_read_range(schema)))
            case _:
                # A number's bounds are an integer's where both are allowed; they bind both.
                _need(kind != "number" or not schema.keys() & _KEYWORDS_BY_TYPE["integer"])
                return self.share(kind)

    def _write_string(self, schema: dict[str, Any]) -> str:
        least, most = _read_counts(schema, "minLength", "maxLength", _MAX_LENGTH)
        if not least and most is None:
            return self.share("string")
        name = self._name(rf'"\"" {self.share("char")}{_times(least, most)} "\""')
        self._length_by_name[name] = most or least
        _need(sum(self._length_by_name.values()) <= _MAX_LENGTHS)
        return name

    def _write_object(self, schema: dict[str, Any]) -> str:
        properties, rest = schema.get("properties", {}), schema.get("additionalProperties")
        required = schema.get("required", [])
        _need(isinstance(properties, dict) and isinstance(required, list))
        _need(all(isinstance(name, str) and name in properties for name in required))
        if properties:
            _need(rest is None or rest is False)
            members = [
                (rf'{_quote(_dump(name))} ":" " "? {self._write(of)}', name in required)
                for name, of in properties.items()
            ]
            return self._name(f'"{{" " "? {self._write_members(members)}')
        if rest is False:
            return '"{" " "? "}"'
        if rest is None or rest is True:
            return self.share("object")
        member = self._name(f'{self.share("string")} ":" " "? {self._write(rest)}')
        return self._name(f'"{{" " "? ("}}" | {member} ("," " "? {member})* " "? "}}")')

    def _write_members(self, members: list[tuple[str, bool]]) -> str:
        """Write the members from the last to the first: what follows where one has come, or none.

        A member that may be left out makes two rules, one for each.
        """
        after, first = '" "? "}"', '"}"'
        for member, is_required in reversed(members):
            with_it = f"{member} {after}"
            _need(len(with_it) <= MAX_GRAMMAR_CHARS)
            if is_required:
                after, first = f'"," " "? {with_it}', with_it
            else:
                first = self._name(f"{with_it} | {first}")
                after = self._name(f'"," " "? {with_it} | {after}')
        return first

    def _write_array(self, schema: dict[str, Any]) -> str:
        least, most = _read_counts(schema, "minItems", "maxItems", _MAX_ITEMS)
        if most == 0:
            return '"[" " "? "]"'
        item = self._write(schema.get("items", True))
        rest = _times(max(least, 1) - 1, None if most is None else most - 1)
        items = f'{item} ("," " "? {item}){rest} " "? "]"'
        return self._name(f'"[" " "? {items}' if least else f'"[" " "? ("]" | {items})')

    def _choose(self, choices: list[str]) -> str:
        _need(bool(choices))
        different = list(dict.fromkeys(choices))
        return different[0] if len(different) == 1 else self._name(" | ".join(different))

    def _name(self, body: str) -> str:
        """Make a rule, or find the one of the same text."""
        if body not in self._name_by_body:
            self._name_by_body[body] = name = f"r{len(self._name_by_body)}"
            self._body_by_name[name] = body
            self._num_chars += len(body)
            _need(self._num_chars <= MAX_GRAMMAR_CHARS)
        return self._name_by_body[body]


def write_range(least: int, most: int) -> list[str]:
    """Return EBNF for the whole numbers of a range: one of these."""
    choices = [f'"-" {one}' for one in _write_positive(max(1, -most), -least)]
    if least <= 0 <= most:
        choices.append('"0"')
    return choices + _write_positive(max(1, least), most)


def _write_positive(least: int, most: int) -> list[str]:
    if least > most:
        return []
    choices = []
    shortest, longest = len(str(least)), len(str(most))
    if least > 10 ** (shortest - 1):
        choices.append(_write_digits(str(least), str(min(most, 10**shortest - 1))))
        shortest += 1
    has_rest = most < 10**longest - 1 and longest >= shortest
    longest -= has_rest
    if shortest <= longest:
        choices.append(f"[1-9] [0-9]{{{shortest - 1},{longest - 1}}}")
    if has_rest:
        choices.append(_write_digits(str(10**longest), str(most)))
    return choices


def _write_digits(least: str, most: str) -> str:
    """Return EBNF for the digits from ``least`` to ``most``, which are equally many."""
    if not least:
        return '""'
    num_more = len(least) - 1
    zeros, nines = "0" * num_more, "9" * num_more
    low, high = int(least[0]), int(most[0])
    if low == high:
        return f"[{low}] {_write_digits(least[1:], most[1:])}" if num_more else f"[{low}]"
    choices = []
    if least[1:] != zeros:
        choices.append(f"[{low}] {_write_digits(least[1:], nines)}")
        low += 1
    has_rest = most[1:] != nines
    high -= has_rest
    if low <= high:
        more = f" [0-9]{{{num_more}}}" if num_more else ""
        choices.append(f"[{low}-{high}]{more}")
    if has_rest:
        choices.append(f"[{high + 1}] {_write_digits(zeros, most[1:])}")
    return f"({' | '.join(choices)})"


def _read_range(schema: dict[str, Any]) -> tuple[int, int]:
    limit = 10**_MAX_DIGITS - 1
    least, most = -limit, limit
    for keyword, value in schema.items():
        if keyword in _KEYWORDS_BY_TYPE["integer"]:
            _need(type(value) in {int, float} and abs(value) < _EXACT and value == int(value))
            match keyword:
                case "minimum":
                    least = max(least, int(value))
                case "exclusiveMinimum":
                    least = max(least, int(value) + 1)
                case "maximum":
                    most = min(most, int(value))
                case _:
                    most = min(most, int(value) - 1)
    _need(least <= most)
    return least, most


def _read_counts(
    schema: dict[str, Any], lower: str, upper: str, limit: int
) -> tuple[int, int | None]:
    least, most = schema.get(lower, 0), schema.get(upper)
    _need(type(least) is int and (most is None or type(most) is int))
    _need(0 <= least <= (limit if most is None else most) <= limit)
    return least, most


def _times(least: int, most: int | None) -> str:
    if most is None:
        return "*" if not least else f"{{{least},}}"
    return f"{{{least},{most}}}"


def _write_literals(values: list[Any], rest: dict[str, Any]) -> list[str]:
    _need(rest.keys() <= {"type"})
    kinds = rest.get("type", list(_JSON_TYPES))
    kinds = kinds if isinstance(kinds, list) else [kinds]
    for value in values:
        # A fraction has more than one spelling.
        _need(type(value) is not float and (type(value) is not int or abs(value) < _EXACT))
        _need(any(type(value) in _JSON_TYPES.get(str(kind), ()) for kind in kinds))
    return [_quote(_dump(value)) for value in values]


_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _quote(text: str) -> str:
    """Return EBNF for a text.

    xgrammar writes what it has read out again, and reads that: other characters than those of ASCII
    as escapes, which then take in a digit that follows. In brackets none does.
    """
    _need(all(char < _FIRST_RARE and not "\ud800" <= char <= "\udfff" for char in text))
    pieces = re.findall(r"([ -~]+)|([^ -~])", text)
    return " ".join(
        _escape(ascii_part) if ascii_part else f"[{char}]" for ascii_part, char in pieces
    )


def _escape(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _need(is_plain: bool) -> None:  # noqa: FBT001 - a condition
    if not is_plain:
        raise _NotPlainError

"""Reads YAML text into nodes that know their lines; refuses duplicate keys and what is no data.

Built from parser events instead of PyYAML's constructor, which follows YAML 1.1 (``no`` is false,
``1:30`` is 90), drops duplicate keys, and makes endless structures of recursive aliases.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from mm_orch.config.keys import dotted
from mm_orch.config.setting import printable, shown_setting
from mm_orch.core.errors import ConfigError
from mm_orch.core.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mm_orch.config.keys import Path

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_DEPTH = 50
_MAX_NODES = 20_000
_MAX_DIGITS = 40
_STR_TAG = "tag:yaml.org,2002:str"
_MERGE_KEY = "<<"

_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOL_BY_WORD = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
# YAML 1.2, core schema.
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL_FLOAT = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

Scalar = bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Node:
    """A value of the document; ``line`` counts from 1."""

    value: Scalar | list[Node] | dict[str, Node]
    line: int

    @property
    def plain(self) -> object:
        """The value without lines."""
        match self.value:
            case list(entries):
                return [entry.plain for entry in entries]
            case dict(entries):
                return {key: entry.plain for key, entry in entries.items()}
            case scalar:
                return scalar


@dataclass(frozen=True, slots=True)
class Document:
    """What a text holds, each duplicate key with its first value, and a fault for each of them."""

    root: Node
    faults: tuple[Fault, ...]


def parse_yaml(text: str, *, origin: str) -> Document:
    """Parse one document; an empty one is an empty mapping.

    Args:
        text: the YAML.
        origin: names the document in faults.

    Raises:
        ConfigError: it is not YAML, or holds what a configuration cannot mean.
    """
    composer = _Composer(yaml.parse(text, Loader=_LOADER), origin)
    try:
        return Document(composer.compose(), tuple(composer.faults))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise _refusal(origin, line, _explain(error, text, line)) from None
    except yaml.YAMLError as error:
        raise _refusal(origin, 1, f"is not YAML: {error}".replace("\n", " ")) from None


def _explain(error: yaml.MarkedYAMLError, text: str, line: int) -> str:
    lines = text.splitlines()
    hint = ""
    if line <= len(lines) and "${" in lines[line - 1]:
        hint = "; inside [ ] and { } a ${NAME} needs quotes"
    return f"is not YAML: {error.problem or error.context}{hint}"


def _refusal(origin: str, line: int, problem: str) -> ConfigError:
    return ConfigError([Fault("line", str(line), problem, origin)])


class _Composer:
    """Builds nodes of one stream of events."""

    def __init__(self, events: Iterator[yaml.Event], origin: str) -> None:
        self._events = events
        self._origin = origin
        self.faults: list[Fault] = []
        self._node_by_anchor: dict[str, Node] = {}
        self._size_by_anchor: dict[str, int] = {}
        self._num_nodes = 0

    def compose(self) -> Node:
        root: Node | None = None
        for event in self._events:
            if not isinstance(event, DocumentStartEvent):
                continue
            if root is not None:
                line = _line(event)
                raise _refusal(self._origin, line, "begins a second document; one is allowed")
            root = self._node(next(self._events), ())
        if root is None or root.value is None:
            return Node({}, 1)
        return root

    def _node(self, event: yaml.Event, path: Path) -> Node:
        line = _line(event)
        size_before = self._num_nodes
        self._count(1, line)
        if len(path) > _MAX_DEPTH:
            raise _refusal(self._origin, line, f"is nested deeper than {_MAX_DEPTH} levels")
        if isinstance(event, AliasEvent):
            return self._alias(str(event.anchor), line)
        self._check_tag(event, line)
        match event:
            case ScalarEvent():
                is_plain = event.implicit[0] and not event.style
                node = Node(_resolve(event.value) if is_plain else event.value, line)
            case SequenceStartEvent():
                node = Node(self._sequence(path), line)
            case _:
                node = Node(self._mapping(path), line)
        if isinstance(event, NodeEvent) and event.anchor:
            self._node_by_anchor[event.anchor] = node
            self._size_by_anchor[event.anchor] = self._num_nodes - size_before
        return node

    def _alias(self, anchor: str, line: int) -> Node:
        node = self._node_by_anchor.get(anchor)
        if node is None:
            problem = f"*{anchor} refers to no anchor &{anchor} that is complete before it"
            raise _refusal(self._origin, line, problem)
        self._count(self._size_by_anchor[anchor], line)
        return node

    def _sequence(self, path: Path) -> list[Node]:
        entries: list[Node] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            entries.append(self._node(event, (*path, f"[{len(entries)}]")))
        return entries

    def _mapping(self, path: Path) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            line = _line(event)
            if not isinstance(event, ScalarEvent):
                raise _refusal(self._origin, line, "has a key that is not plain text")
            key = event.value
            value = self._node(next(self._events), (*path, key))
            if key == _MERGE_KEY and not event.style:
                merged = {**self._mergeable(value), **merged}
            elif key in entries:
                self._state_duplicate((*path, key), value, (entries[key].line, line))
            else:
                entries[key] = Node(value.value, line)
        return {**merged, **entries}

    def _state_duplicate(self, path: Path, value: Node, lines: tuple[int, int]) -> None:
        problem = f"is given twice, on lines {lines[0]} and {lines[1]}; keep one"
        shown = shown_setting(path, value.plain)
        self.faults.append(
            Fault(printable(dotted(path)), shown, problem, f"{self._origin} line {lines[1]}")
        )

    def _mergeable(self, node: Node) -> dict[str, Node]:
        sources = node.value if isinstance(node.value, list) else [node]
        merged: dict[str, Node] = {}
        for source in sources:
            if not isinstance(source.value, dict):
                raise _refusal(self._origin, node.line, "merges (<<) what is not a mapping")
            merged = {**source.value, **merged}
        return merged

    def _check_tag(self, event: yaml.Event, line: int) -> None:
        tag = getattr(event, "tag", None)
        is_text = isinstance(event, ScalarEvent) and tag in {"!", _STR_TAG}
        if tag is not None and not is_text:
            raise _refusal(self._origin, line, f"has the tag {tag}; only !!str is allowed")

    def _count(self, num_nodes: int, line: int) -> None:
        self._num_nodes += num_nodes
        if self._num_nodes > _MAX_NODES:
            problem = f"makes the document larger than {_MAX_NODES} values"
            raise _refusal(self._origin, line, problem)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _resolve(text: str) -> Scalar:
    """Return what a plain scalar means."""
    if text in _NULLS:
        return None
    if text in _BOOL_BY_WORD:
        return _BOOL_BY_WORD[text]
    if len(text) <= _MAX_DIGITS:
        for pattern, base in ((_DECIMAL, 10), (_OCTAL, 8), (_HEX, 16)):
            if pattern.fullmatch(text):
                return int(text, base)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL_FLOAT.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text

"""Writes docs/http-reference.md: every path, what it takes and answers, from /openapi.json."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generated_files import write_or_check

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.unit.api.described import (  # noqa: E402 - the package is found by the line above
    read_description,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    Json = dict[str, Any]

PAGE = ROOT / "docs/http-reference.md"
REASON = "is not what /openapi.json says; run: python scripts/generate_http_docs.py"

_HEAD = """\
# HTTP reference

Made of `/openapi.json` by `make docs`. [HTTP](http.md) says what the paths are for and how errors,
keys, streams and limits work.
"""
_GROUPS = {"/v1": "OpenAI's paths", "/api": "Native paths", "/admin": "For operators"}
_OTHER = "Health, metrics and pages"
_REFUSAL = "[ErrorEnvelope](#errorenvelope)"
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} entries",
    "maxItems": "at most {} entries",
}
# What FastAPI says where nothing is said.
_UNSAID = "Successful Response"


def render(description: Json) -> str:
    """Return the page."""
    schemas: Json = description["components"]["schemas"]
    parts = [_HEAD]
    used: set[str] = set()
    for title in (*_GROUPS.values(), _OTHER):
        parts.append(f"## {title}\n")
        for path, operations in description["paths"].items():
            if _group(path) == title:
                for method, operation in operations.items():
                    parts.append("\n".join(_operation(method, path, operation, used)))
    parts.append("## Bodies and answers\n")
    parts += ["\n".join(_schema(name, schemas[name])) for name in _with_inner(used, schemas)]
    return "\n".join(parts).rstrip() + "\n"


def _group(path: str) -> str:
    return _GROUPS.get(f"/{path.split('/')[1]}", _OTHER)


def _operation(method: str, path: str, operation: Json, used: set[str]) -> Iterator[str]:
    yield f"### {method.upper()} {path}\n"
    words = operation.get("description") or operation.get("summary") or ""
    yield f"{_plain(words.split(chr(10) * 2)[0])}\n"
    for parameter in operation.get("parameters", []):
        need = "needed" if parameter.get("required") else "optional"
        kind = _kind(parameter["schema"], used)
        yield f"- `{parameter['name']}` ({parameter['in']}, {need}): {kind}"
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"- body, `{media}`: {_kind(content.get('schema', {}), used)}"
    refused = []
    for status, answer in operation["responses"].items():
        bodies = _bodies(answer, used)
        if bodies == _REFUSAL:
            refused.append(status)
        else:
            said = _plain(answer.get("description", "")).replace(_UNSAID, "The answer.")
            yield f"- {status}: {said} {bodies}".rstrip()
    if refused:
        yield f"- refused with {', '.join(refused)} ([when](http.md#errors)): {_REFUSAL}"
    yield ""


def _bodies(answer: Json, used: set[str]) -> str:
    return ", ".join(
        _kind(content.get("schema", {}), used) if media.endswith("json") else f"`{media}`"
        for media, content in answer.get("content", {}).items()
    )


def _schema(name: str, schema: Json) -> Iterator[str]:
    yield f"### {name}\n"
    if schema.get("description"):
        yield f"{_plain(schema['description'].split(chr(10) * 2)[0])}\n"
    fields = schema.get("properties")
    if not fields:
        yield f"{_kind(schema, set())}\n"
        return
    yield "| field | is | |"
    yield "| --- | --- | --- |"
    needed = schema.get("required", ())
    for field, content in fields.items():
        need = "needed" if field in needed else _default(content)
        words = _plain(content.get("description", ""))
        yield f"| `{field}` | {_kind(content, set())} | {'; '.join(filter(None, (need, words)))} |"
    yield ""


def _default(schema: Json) -> str:
    value = schema.get("default")
    return "" if value is None else f"default `{_cell(json.dumps(value))}`"


def _kind(schema: Json, used: set[str]) -> str:
    """Return what a schema allows, in words; note the named ones that it uses."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        used.add(name)
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(_kind(one, used) for one in schema[several]))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return "one of " + ", ".join(f"`{_cell(json.dumps(value))}`" for value in values)
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}), used)}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map of {_kind(schema['additionalProperties'], used)}"
    return f"{' or '.join(kind) if isinstance(kind, list) else kind}{_bounds(schema)}"


def _bounds(schema: Json) -> str:
    said = [words.format(schema[key]) for key, words in _BOUNDS.items() if key in schema]
    return f", {', '.join(said)}" if said else ""


def _with_inner(used: set[str], schemas: Json) -> list[str]:
    """Return these schemas and those that they use, by name."""
    known: set[str] = set()
    unread = set(used)
    while unread:
        name = unread.pop()
        known.add(name)
        inner = set(re.findall(r"#/components/schemas/(\w+)", str(schemas[name])))
        unread |= inner - known
    return sorted(known)


def _plain(text: str) -> str:
    """Return text for a cell of a table: one line, without reST's double quotes and roles."""
    line = " ".join(text.split())
    line = re.sub(r":\w+:`([^`]*)`", r"`\1`", line).replace("``", "`")
    return _cell(line)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> int:
    """Write the page, or with --check say whether it is up to date."""
    description = asyncio.run(read_description())
    return write_or_check({PAGE: render(description)}, root=ROOT, reason=REASON)


if __name__ == "__main__":
    sys.exit(main())

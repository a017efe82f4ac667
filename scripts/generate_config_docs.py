"""Writes what the schema says into config/optimization.example.yaml and docs/configuration.md."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from generated_files import write_or_check

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from mm_orch.config.environment import (  # noqa: E402 - the package is found by the line above
    API_KEY,
    API_KEYS,
    SHORT_NAMES,
)
from mm_orch.config.keys import (  # noqa: E402
    ANY_MODEL,
    MODELS,
    Key,
    dotted,
    keys_by_path,
    sections_by_path,
)
from mm_orch.config.kinds import Shape  # noqa: E402
from mm_orch.config.rendering import yaml_value  # noqa: E402
from mm_orch.config.schema import BUILT_IN_MODEL, Config  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    KeyPath = tuple[str, ...]

EXAMPLE = ROOT / "config/optimization.example.yaml"
GUIDE = ROOT / "docs/configuration.md"
PRESETS = ROOT / "config/presets"
REASON = "is not what the schema says; run: python scripts/generate_config_docs.py"

_WIDTH = 96
_EXAMPLE_HEAD = """\
# Every option with its default. Copy this file to config/optimization.yaml and change what you
# need; what is left out keeps its default. The default of options behind a # depends on something
# else. [ ] says what is allowed; options marked live are those that may change while the server
# runs. docs/configuration.md explains the whole.
"""
_EXAMPLE_MODELS = f"""
# The models by name. {BUILT_IN_MODEL} is always there and needs no entry.
models:
  # my-model:
"""
_GENERATED = re.compile(
    r"(?P<begin><!-- generated: (?P<name>[a-z ]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL
)


def render_example() -> str:
    """Return the example file."""
    lines = [_EXAMPLE_HEAD.rstrip()]
    for name in Config.model_fields:
        lines += _example_models() if name == MODELS else ["", *_example_section((name,))]
    return "\n".join(lines) + "\n"


def _example_section(path: KeyPath) -> Iterator[str]:
    indent = "  " * (len(path) - 1)
    description = (sections_by_path()[path].__doc__ or "").splitlines()[0]
    yield from _comment(description, indent)
    yield f"{indent}{path[-1]}:"
    for name in sections_by_path()[path].model_fields:
        inner = (*path, name)
        if inner in sections_by_path():
            yield from _example_section(inner)
        else:
            yield from _example_option(keys_by_path()[inner], indent + "  ")


def _example_models() -> Iterator[str]:
    yield from _EXAMPLE_MODELS.rstrip().splitlines()
    for key in keys_by_path().values():
        if ANY_MODEL in key.path:
            yield from _comment(_meaning(key), "  ")
            value = "hf:ORG/NAME" if key.path[-1] == "source" else yaml_value(key.default)
            yield f"  #   {key.path[-1]}: {value}"


def _example_option(key: Key, indent: str) -> Iterator[str]:
    yield from _comment(_meaning(key), indent)
    if key.facts.default_in_words is None:
        yield f"{indent}{key.path[-1]}: {yaml_value(key.default)}"
    else:
        value = yaml_value(key.default) if _has_default(key) else "false"
        yield f"{indent}# {key.path[-1]}: {value}"


def _meaning(key: Key) -> str:
    default = key.facts.default_in_words
    notes = [
        "" if key.kind.shape is Shape.BOOL else key.kind.words,
        f"default {default}" if default else "",
        "live" if key.facts.is_live else "",
    ]
    return f"{key.description} {_bracketed(notes)}".rstrip()


def _bracketed(notes: list[str]) -> str:
    return f"[{'; '.join(note for note in notes if note)}]" if any(notes) else ""


def _has_default(key: Key) -> bool:
    return not key.field.is_required() and key.field.default_factory is None


def _comment(text: str, indent: str) -> list[str]:
    prefix = f"{indent}# "
    return textwrap.wrap(text, _WIDTH, initial_indent=prefix, subsequent_indent=prefix)


def render_guide(guide: str) -> str:
    """Return the guide with its generated parts made anew."""
    parts = {
        **{name: _option_table(name) for name in Config.model_fields},
        "short variables": _short_variables(),
        "live options": _live_options(),
        "presets": _presets(),
    }

    def replacement(match: re.Match[str]) -> str:
        return f"{match['begin']}{parts[match['name']]}{match['end']}"

    return _GENERATED.sub(replacement, guide)


def _option_table(section: str) -> str:
    rows = [_option_row(key) for path, key in keys_by_path().items() if path[0] == section]
    head = "| key | value | default | meaning |\n| --- | --- | --- | --- |\n"
    return head + "".join(rows)


def _option_row(key: Key) -> str:
    name = dotted(key.path[1:]).replace(ANY_MODEL, "&lt;name&gt;")
    default = key.facts.default_in_words or f"`{yaml_value(key.default)}`"
    meaning = f"{key.description} [live]" if key.facts.is_live else key.description
    # Brackets that follow one another would be read as a link.
    allowed = key.kind.words.replace("][", "]\\[")
    return f"| {name} | {allowed} | {default} | {meaning} |\n"


def _short_variables() -> str:
    rows = "".join(f"| `{name}` | `{key}` |\n" for name, key in SHORT_NAMES.items())
    keys = (
        f"| `{API_KEY}`, `{API_KEYS}` | `api.api_keys`: one key, a comma list; both are joined, and"
        " take the place of the file's whole list |\n"
    )
    return "| variable | key |\n| --- | --- |\n" + rows + keys


def _live_options() -> str:
    live = [dotted(path) for path, key in keys_by_path().items() if key.facts.is_live]
    return "".join(f"- `{key}`\n" for key in live)


def _presets() -> str:
    rows = []
    for path in sorted(PRESETS.glob("*.yaml")):
        purpose = path.read_text().splitlines()[0].removeprefix("# ")
        rows.append(f"| [{path.stem}](../config/presets/{path.name}) | {purpose} |\n")
    return "| preset | for |\n| --- | --- |\n" + "".join(rows)


def main() -> int:
    """Write the files, or with --check say whether they are up to date."""
    content_by_path = {EXAMPLE: render_example(), GUIDE: render_guide(GUIDE.read_text())}
    return write_or_check(content_by_path, root=ROOT, reason=REASON)


if __name__ == "__main__":
    sys.exit(main())

"""Reads the tables of what to look for, which are data: signals by language, and names."""

from __future__ import annotations

import hashlib
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from mm_orch.routing.route import Workflow
from mm_orch.routing.signals import MANY_NAMES, Signal

Language = Literal["en", "zh"]

_FOLDER = Path(__file__).parent / "tables"
_TOPICS = ("lessons", "documents", "facts", "questions", "hints", "words", "knowledge")


class SignalRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A signal as a table states it.

    Attributes:
        patterns: regular expressions, of which one is enough; <name> stands for a fragment.
        words: divided by spaces; one is enough too.
        phrases: of two or three words, likewise.

    The others are those of Signal.
    """

    workflow: Workflow
    reason: str
    patterns: tuple[str, ...] = ()
    words: str = ""
    phrases: tuple[str, ...] = ()
    needs_documents: bool = False
    min_names: int = 0
    max_names: int = MANY_NAMES


class SignalTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of signals; fragments are parts that several patterns share."""

    signals: tuple[SignalRow, ...]
    fragments: dict[str, str] = {}


class NameTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What names look like.

    Attributes:
        capitalised: words with a capital that are no names, divided by spaces.
        english: names that are often written in small letters, divided by commas.
        chinese: names, divided by spaces.
        chinese_patterns: regular expressions of names.
    """

    capitalised: str
    english: str
    chinese: str
    chinese_patterns: tuple[str, ...]


@cache
def load_signals(language: Language) -> tuple[Signal, ...]:
    """Return the signals of a language, compiled once."""
    tables = [
        msgspec.convert(_read(f"{language}_{topic}"), SignalTable, strict=False)
        for topic in _TOPICS
    ]
    return tuple(
        _compile(row, table.fragments, language) for table in tables for row in table.signals
    )


@cache
def load_names() -> NameTable:
    """Return the table of names."""
    return msgspec.convert(_read("names"), NameTable)


@cache
def digest_tables() -> str:
    """Return a digest of all tables: weights that were fitted to other ones are worth nothing."""
    digest = hashlib.sha256()
    for path in sorted(_FOLDER.glob("*.toml")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def join_words(alternatives: list[str]) -> str:
    """Return an alternation of plain texts, the longest first: it takes the first that fits."""
    ordered = sorted(set(alternatives), key=lambda one: (-len(one), one))
    return "|".join(re.escape(one) for one in ordered)


def _read(name: str) -> dict[str, object]:
    return tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def _compile(row: SignalRow, fragments: dict[str, str], language: Language) -> Signal:
    joined = "|".join([*row.patterns, join_words([*row.words.split(), *row.phrases])]).strip("|")
    for name, fragment in fragments.items():
        joined = joined.replace(f"<{name}>", fragment)
    return Signal(
        key=f"{language} {row.workflow}: {row.reason}",
        workflow=row.workflow,
        reason=row.reason,
        # No signal begins or ends inside a Latin word.
        pattern=re.compile(rf"(?<![a-z0-9])(?:{joined})(?![a-z0-9])"),
        needs_documents=row.needs_documents,
        min_names=row.min_names,
        max_names=row.max_names,
    )

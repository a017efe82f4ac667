"""Finds the parts of a text that belong together, and the headings that each stands under.

Markdown as CommonMark 0.31 has it, as far as it says where parts begin: headings with # and
underlined ones, fenced code, lists, and tables as GitHub writes them. Nothing is taken out of the
text: what is found are places.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mm_orch.documents.text import FileText

# What is longer is a paragraph, whatever stands before it.
_MAX_HEADING_CHARS = 200
_TITLE_LEVEL = 1
_ROW_LEVEL = 99

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_HEADING = re.compile(r" {0,3}(#{1,6})(?=[ \t\n]|\Z)")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*\n?")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ITEM = re.compile(r"\s*(?:[-*+]|\d{1,9}[.)])[ \t]+\S")
_ROW = re.compile(r" {0,3}\|")
_RULE_OF_TABLE = re.compile(r" {0,3}\|[ \t:|-]+\n?")
_UNDERLINED_LEVELS = {"=": 1, "-": 2}


class Kind(enum.Enum):
    """What a unit is: headings begin sections; they and heads of tables belong to what follows."""

    BODY = enum.auto()
    HEADING = enum.auto()
    TABLE_HEAD = enum.auto()


@dataclass(frozen=True, slots=True)
class Unit:
    """A part that is kept whole where it fits: a paragraph, an item, a row, a heading.

    Attributes:
        start: of its first character.
        end: of the character after its last.
        path: the headings that it stands under, the outermost first, and the head of its table.
    """

    start: int
    end: int
    path: tuple[str, ...]
    kind: Kind = Kind.BODY


@dataclass(slots=True)
class _Scan:
    """Where the lines have led so far.

    Attributes:
        open: level and words of the headings that what comes next stands under.
        start: of the part that is being read; None between parts.
        end: of its last line.
        fence: what ends the code that is being read; empty outside of code.
        num_rows: of the table that is being read.
    """

    open: list[tuple[int, str]] = field(default_factory=list)
    start: int | None = None
    end: int = 0
    num_lines: int = 0
    fence: str = ""
    num_rows: int = 0

    @property
    def path(self) -> tuple[str, ...]:
        return tuple(words for _, words in self.open)

    def finish(self) -> Iterator[Unit]:
        """End the part that is being read."""
        if self.start is not None:
            yield Unit(self.start, self.end, self.path)
        self.start, self.num_lines = None, 0

    def extend(self, start: int, end: int) -> None:
        self.start = start if self.start is None else self.start
        self.end = end
        self.num_lines += 1

    def enter(self, level: int, words: str) -> None:
        """Let what follows stand under a heading."""
        while self.open and self.open[-1][0] >= level:
            self.open.pop()
        if words:
            self.open.append((level, words))


def find_units(file: FileText) -> Iterator[Unit]:
    """Yield the parts of a text in their order; what lies between them is white space alone."""
    lines = ((one.start(), one.end()) for one in _LINE.finditer(file.text))
    if file.media_type == "text/markdown":
        return _scan_markdown(file.text, lines)
    return _scan_plain(file.text, lines, has_title=file.media_type == "text/plain")


def _scan_plain(text: str, lines: Iterable[tuple[int, int]], *, has_title: bool) -> Iterator[Unit]:
    """Find the parts between empty lines; the first, if it is short and one line, is the title."""
    scan = _Scan()
    for start, end in lines:
        if text[start:end].strip():
            scan.extend(start, end)
            continue
        is_title = has_title and not scan.open and scan.num_lines == 1
        has_title = has_title and scan.start is None
        if is_title and scan.start is not None and _is_short(words := text[scan.start : scan.end]):
            yield Unit(scan.start, scan.end, (), Kind.HEADING)
            scan.start, scan.num_lines = None, 0
            scan.enter(_TITLE_LEVEL, _one_line(words))
        yield from scan.finish()
    yield from scan.finish()


def _scan_markdown(text: str, lines: Iterable[tuple[int, int]]) -> Iterator[Unit]:
    scan = _Scan()
    for start, end in lines:
        line = text[start:end]
        if scan.fence:
            scan.extend(start, end)
            if line.strip().startswith(scan.fence) and not line.strip(" \t\n`~"):
                scan.fence = ""
                yield from scan.finish()
        else:
            yield from _take_line(scan, text, line, start, end)
    yield from scan.finish()


def _take_line(scan: _Scan, text: str, line: str, start: int, end: int) -> Iterator[Unit]:
    if scan.num_rows and not _ROW.match(line):
        # What follows a table no longer stands under its head.
        yield from scan.finish()
        scan.num_rows = 0
        scan.enter(_ROW_LEVEL, "")
    if heading := _HEADING.match(line):
        yield from scan.finish()
        words = _without_closing(line[heading.end() :])
        yield from _take_heading(scan, len(heading[1]), words, start, end)
    elif (underline := _UNDERLINE.fullmatch(line)) and (above := _find_line_above(scan, text)):
        begin, scan.start, scan.num_lines = scan.start or 0, None, 0
        yield from _take_heading(scan, _UNDERLINED_LEVELS[underline[1][0]], above, begin, end)
    elif fence := _FENCE.match(line):
        yield from scan.finish()
        scan.fence = fence[1]
        scan.extend(start, end)
    elif _ROW.match(line):
        yield from _take_row(scan, line, start, end)
    elif not line.strip():
        yield from scan.finish()
    else:
        if _ITEM.match(line):
            yield from scan.finish()
        scan.extend(start, end)


def _take_heading(scan: _Scan, level: int, words: str, start: int, end: int) -> Iterator[Unit]:
    if not _is_short(words):
        yield Unit(start, end, scan.path)
        return
    scan.enter(level, "")
    yield Unit(start, end, scan.path, Kind.HEADING)
    scan.enter(level, _one_line(words))


def _take_row(scan: _Scan, line: str, start: int, end: int) -> Iterator[Unit]:
    yield from scan.finish()
    scan.num_rows += 1
    if scan.num_rows == 1:
        yield Unit(start, end, scan.path, Kind.TABLE_HEAD)
        if _is_short(line):
            scan.enter(_ROW_LEVEL, _one_line(line))
        return
    # The rule below the head says nothing by itself.
    is_rule = _RULE_OF_TABLE.fullmatch(line)
    yield Unit(start, end, scan.path, Kind.TABLE_HEAD if is_rule else Kind.BODY)


def _without_closing(words: str) -> str:
    """Return a heading's words without the #s that may end its line."""
    words = words.strip()
    before, _, last = words.rpartition(" ")
    return words if last.strip("#") else before.rstrip()


def _find_line_above(scan: _Scan, text: str) -> str:
    """Return the line that an underline makes a heading; empty where there is none."""
    if scan.start is None or scan.num_lines != 1 or _ITEM.match(text, scan.start, scan.end):
        return ""
    return text[scan.start : scan.end]


def _is_short(words: str) -> bool:
    return len(words) <= _MAX_HEADING_CHARS


def _one_line(words: str) -> str:
    return " ".join(words.split())

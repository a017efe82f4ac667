"""The fenced code blocks of the documentation, and the commands in those of shells."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "deploy/README.md",
    *sorted((ROOT / "examples").rglob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)
SHELL = ("bash", "console")

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<language>\w*)\s*$")
_MARK = re.compile(r"^ *<!-- runs(?:: (?P<name>\w+))? -->$")
_QUOTED_OR_CONTINUED = re.compile(r"('[^']*')|\\\n")
_PROMPT = "$ "
_SEPARATORS = frozenset(("|", "||", "&", "&&", ";", "(", ")"))
_REDIRECTIONS = frozenset((">", ">>", "<", ">&"))


@dataclass(frozen=True, slots=True)
class Block:
    """One block.

    Attributes:
        line: of its first fence, from 1.
        language: behind the fence; empty where it has none.
        runs: the name in the mark ``<!-- runs: NAME -->`` above it, empty in ``<!-- runs -->``;
            None without a mark.
    """

    page: Path
    line: int
    language: str
    text: str
    runs: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def script(self) -> str:
        """What one would type: of a console, the lines behind a prompt with those they go on in."""
        if self.language != "console":
            return self.text
        typed: list[str] = []
        goes_on = False
        for line in self.text.splitlines():
            if goes_on or line.startswith(_PROMPT):
                typed.append(line if goes_on else line.removeprefix(_PROMPT))
                goes_on = line.endswith("\\")
        return "".join(f"{line}\n" for line in typed)


def read_blocks(*languages: str) -> list[Block]:
    """Return the blocks of all pages that are in one of these languages; of none, all."""
    blocks = [block for page in PAGES for block in _blocks_of(page)]
    return [block for block in blocks if not languages or block.language in languages]


def read_spans(program: str) -> list[tuple[str, str]]:
    """Return the calls of a program that pages name within their text, each with its page."""
    found: list[tuple[str, str]] = []
    for page in PAGES:
        inside = re.findall(rf"`((?:[\w./]+/)?{program}\s[^`]+)`", page.read_text())
        found += [(str(page.relative_to(ROOT)), " ".join(call.split())) for call in inside]
    return found


def _blocks_of(page: Path) -> Iterator[Block]:
    lines = page.read_text().splitlines()
    number = 0
    while number < len(lines):
        if opened := _FENCE.match(lines[number]):
            begin = number
            number += 1
            while lines[number].strip() != opened["fence"]:
                number += 1
            width = len(opened["indent"])
            text = "".join(f"{line[width:]}\n" for line in lines[begin + 1 : number])
            mark = _MARK.match(lines[begin - 1]) if begin else None
            runs = (mark["name"] or "") if mark else None
            yield Block(page, begin + 1, opened["language"], text, runs)
        number += 1


def commands_in(script: str) -> list[list[str]]:
    """Return the simple commands of a script as words: without variables set, and redirections."""
    commands: list[list[str]] = []
    # A shell joins lines at a backslash, but keeps both between single quotes.
    joined = _QUOTED_OR_CONTINUED.sub(
        lambda found: found[1].replace("\n", " ") if found[1] else " ", script
    )
    for line in joined.splitlines():
        words: list[str] = []
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.commenters = "#"
        # shlex ends a word at each of these outside of quotes; a shell does not.
        lexer.wordchars += ":,[]{}$@%+!^"
        tokens = iter(lexer)
        for token in tokens:
            if token in _SEPARATORS:
                commands.append(words)
                words = []
            elif token in _REDIRECTIONS:
                next(tokens)
            else:
                words.append(token)
        commands.append(words)
    return [stripped for words in commands if (stripped := _without_variables(words))]


def _without_variables(words: list[str]) -> list[str]:
    while words and re.match(r"\w+=", words[0]):
        words = words[1:]
    return words

"""Lines of pieces that each have a tone: cut to a width, wrapped, with colours or without."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CUT = "…"


class Tone(enum.Enum):
    """How a piece is meant; the value selects its looks in an ANSI terminal (SGR)."""

    PLAIN = ""
    STRONG = "1"
    FAINT = "2"
    BAD = "31"
    GOOD = "32"
    WARNING = "33"


class Piece(NamedTuple):
    """Some text of one line, in one tone."""

    text: str
    tone: Tone = Tone.PLAIN


Line = tuple[Piece, ...]


def width_of(line: Line) -> int:
    """Return how many columns a line takes."""
    return sum(len(piece.text) for piece in line)


def flow(facts: Iterable[Line], width: int, *, label: str = "", indent: int = 0) -> Iterator[Line]:
    """Lay facts side by side, two spaces apart, in as many lines as they need.

    Args:
        facts: none is divided.
        width: columns that there are.
        label: stands before the first line.
        indent: columns before the facts, in every line.
    """
    begin = Piece(label.ljust(indent), Tone.STRONG)
    line: Line = (begin,)
    for fact in facts:
        is_first = len(line) == 1
        if not is_first and width_of(line) + 2 + width_of(fact) > width:
            yield line
            line, is_first = (Piece(" " * indent),), True
        line = (*line, *fact) if is_first else (*line, Piece("  "), *fact)
    yield line


def to_text(line: Line, width: int | None = None, *, is_coloured: bool = False) -> str:
    """Return a line as a terminal takes it: cut to the width, without control characters."""
    pieces = [piece._replace(text=_printable(piece.text)) for piece in line]
    if width is not None and width_of(tuple(pieces)) > width:
        pieces = [*_cut(pieces, width - len(_CUT)), Piece(_CUT)]
    if not is_coloured:
        return "".join(piece.text for piece in pieces).rstrip()
    return "".join(
        f"\x1b[{tone.value}m{text}\x1b[0m" if tone.value else text for text, tone in pieces if text
    )


def _printable(text: str) -> str:
    """What a server says of itself may hold anything, such as sequences that move the cursor."""
    return "".join(character if character.isprintable() else " " for character in text)


def _cut(pieces: Iterable[Piece], width: int) -> Iterator[Piece]:
    left = max(width, 0)
    for piece in pieces:
        yield piece._replace(text=piece.text[:left])
        left = max(left - len(piece.text), 0)

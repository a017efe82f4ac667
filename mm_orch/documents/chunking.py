"""Cuts a text into chunks by its parts and by tokens; a pure function of the text.

A chunk takes as many whole parts as fit, and never goes on over a heading. A part that is larger
than a chunk is cut at the last end of a line, a sentence or a word that fits, and where there is
none at the last character. Headings and heads of tables stay with what follows them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mm_orch.documents.structure import Kind, Unit, find_units
from mm_orch.storage.documents import ChunkMetadata, Passage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mm_orch.documents.text import FileText

MIN_CHUNK_SIZE = 16
"""Below, headings leave no room for the text."""

_BETWEEN_HEADINGS = " > "
# Of a chunk, for the headings; they are shortened to it.
_HEADING_SHARE = 0.5
# Of a chunk, for what is repeated of the one before.
MAX_OVERLAP_SHARE = 0.5
# No language has so many. What a tokeniser takes for one unknown token may have any number.
_MAX_CHARS_PER_TOKEN = 16
# A cut at a better place may leave a chunk no emptier than this.
_MIN_FILL = 0.5
# Where a part is cut, the best places first: ends of lines, of sentences (Chinese ones too), of
# words.
_CUTS = (
    re.compile(r"\n"),
    re.compile(r"[.!?]\s|[\u3002\uff01\uff1f\uff1b]"),
    re.compile(r"\s"),
)
_WORD = re.compile(r"\S+")
_SENTENCE_ENDS = ".!?\u3002\uff01\uff1f"


@dataclass(frozen=True, slots=True)
class Measure:
    """How large chunks are.

    Attributes:
        count: gives the tokens of a text, those included that stand around every text.
        size: most tokens of a chunk, with its headings.
        overlap: most tokens that a chunk has in common with the one before it.
    """

    count: Callable[[str], int]
    size: int
    overlap: int = 0


def cut_into_chunks(file: FileText, measure: Measure) -> Iterator[Passage]:
    """Yield the chunks of a text in their order; all of it but white space is in one of them.

    Args:
        file: the text.
        measure: how large they are. A single character that has more tokens than fit is a chunk
            all the same.
    """
    cutter = _Cutter(file, measure)
    for section in _split_sections(find_units(file)):
        yield from cutter.cut(section)


class _Cutter:
    def __init__(self, file: FileText, measure: Measure) -> None:
        self._file = file
        self._text = file.text
        self._measure = measure
        self._headings: dict[tuple[str, ...], str] = {}

    def cut(self, units: list[Unit]) -> Iterator[Passage]:
        """Yield the chunks of one section; what is cut off of a unit stays in ``units``."""
        first, start = 0, units[0].start
        while first < len(units):
            begin = units[first].start
            heading = self._heading_of(units[first])
            following = self._find_whole(units, first, start, heading)
            if following == first:
                end = self._find_cut(units[first], start, heading)
                rest = self._skip_space(end, units[first].end)
                units[first] = replace(units[first], start=rest, kind=Kind.BODY)
                following += rest == units[first].end
            else:
                end = units[following - 1].end
            yield self._passage(start, end, heading)
            if following < len(units):
                start = self._find_overlap(begin, end, units[following])
            first = following

    def _find_whole(self, units: Sequence[Unit], first: int, start: int, heading: str) -> int:
        """Return the unit before which a chunk ends that has whole ones; ``first`` for none."""
        room = self._measure.size - self._count(heading)
        # The sum says about where the end is; the text as a whole is counted to be sure.
        following, total = first, self._count(self._text[start : units[first].start])
        while following < len(units) and total <= room:
            total += self._count_between(units[following])
            following += total <= room
        while following > first and not self._fits(heading, start, units[following - 1].end):
            following -= 1
        if following == len(units):
            return following
        # Heads stay with what follows, where something stands before them.
        shorter = following
        while shorter > first and units[shorter - 1].kind is not Kind.BODY:
            shorter -= 1
        return shorter if shorter > first else following

    def _find_cut(self, unit: Unit, start: int, heading: str) -> int:
        """Return where a unit is cut that does not fit, after its first character or later."""
        low, high = unit.start + 1, unit.end
        while low < high:
            middle = (low + high + 1) // 2
            if self._fits(heading, start, middle):
                low = middle
            else:
                high = middle - 1
        earliest = unit.start + 1 + int((low - unit.start - 1) * _MIN_FILL)
        for cut in _CUTS:
            places = [one.end() for one in cut.finditer(self._text, earliest, low)]
            if places:
                return places[-1]
        return low

    def _find_overlap(self, begin: int, end: int, following: Unit) -> int:
        """Return where the next chunk begins: at the sentences that are repeated, or the words."""
        if self._measure.overlap == 0 or following.kind is not Kind.BODY:
            return following.start
        words = [word.start() for word in _WORD.finditer(self._text, begin, end)][1:]
        low, high = 0, len(words)
        while low < high:
            middle = (low + high) // 2
            if self._count(self._text[words[middle] : end]) <= self._measure.overlap:
                high = middle
            else:
                low = middle + 1
        repeated = words[low:]
        sentences = (place for place in repeated if self._begins_sentence(place))
        start = next(sentences, repeated[0] if repeated else following.start)
        # What is repeated leaves room for more than itself.
        heading = self._heading_of(following)
        is_useful = self._fits(heading, start, self._skip_word(following))
        return start if is_useful else following.start

    def _begins_sentence(self, place: int) -> bool:
        before = self._text[max(0, place - 2) : place]
        return "\n" in before or before.rstrip()[-1:] in _SENTENCE_ENDS

    def _skip_word(self, unit: Unit) -> int:
        word = _WORD.match(self._text, unit.start, unit.end)
        return unit.end if word is None else word.end()

    def _skip_space(self, start: int, end: int) -> int:
        """Return the first place from ``start`` on that is no white space, or ``end``."""
        word = _WORD.search(self._text, start, end)
        return end if word is None else word.start()

    def _heading_of(self, unit: Unit) -> str:
        """Return the headings that a unit stands under, or those of them that leave it room."""
        path = unit.path
        if path not in self._headings:
            shorter = (path, (*path[:1], *path[-1:]), path[-1:])
            room = self._measure.size * _HEADING_SHARE
            joined = (_BETWEEN_HEADINGS.join(one) for one in shorter)
            self._headings[path] = next((one for one in joined if self._count(one) <= room), "")
        return self._headings[path]

    def _passage(self, start: int, end: int, heading: str) -> Passage:
        text = self._text[start:end].rstrip()
        where = ChunkMetadata(start=start, end=start + len(text), page=self._file.page_at(start))
        return Passage(text=text, heading=heading, metadata=where)

    def _fits(self, heading: str, start: int, end: int) -> bool:
        text = self._text[start:end].rstrip()
        content = f"{heading}\n{text}" if heading else text
        size = self._measure.size
        return len(content) <= size * _MAX_CHARS_PER_TOKEN and self._measure.count(content) <= size

    def _count_between(self, unit: Unit) -> int:
        length = unit.end - unit.start
        if length > self._measure.size * _MAX_CHARS_PER_TOKEN:
            return length
        return self._count(self._text[unit.start : unit.end])

    def _count(self, text: str) -> int:
        return self._measure.count(text) if text else 0


def _split_sections(units: Iterable[Unit]) -> Iterator[list[Unit]]:
    """Yield the units between headings; one that only another heading follows stays with that."""
    section: list[Unit] = []
    has_body = False
    for unit in units:
        if unit.kind is Kind.HEADING and has_body:
            yield section
            section, has_body = [], False
        has_body = has_body or unit.kind is not Kind.HEADING
        section.append(unit)
    if section:
        yield section

"""Cuts passages into what can be quoted: sentences, rows of tables, items of lists."""

from __future__ import annotations

import re

# Where a sentence may end: its mark, what closes after it, and the space before the next one.
_END = re.compile(r"[.!?][\"'\u201d\u2019)\]*_]*\s+|[\u3002\uff01\uff1f][\u300d\u300f\u201d]*\s*")
# After these and after a single capital letter a point ends no sentence.
_ABBREVIATION_LINES = """
    al approx ca capt cf col dept dr ed eds eg etc fig figs gen hon ie inc jr lt ltd messrs mr mrs
    ms mt nos nr op p pp prof rev sen sgt sr st vol vols vs
"""
_ABBREVIATIONS = frozenset(_ABBREVIATION_LINES.split())
# These are words too: abbreviations where a number follows.
_BEFORE_NUMBERS = frozenset({"no"})
_LAST_WORD = re.compile(r"([^\W_]+)[.]$")
# Longer than any abbreviation, or number of an item.
_MAX_LAST_WORD = 24
_RULE = re.compile(r"[\s|:+=_*\-]+")


def split_sentences(text: str) -> list[str]:
    """Return the statements of a text, each as it stands there but for white space around it."""
    sentences: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        # Nothing is said by a table's rule.
        if not stripped or _RULE.fullmatch(stripped):
            continue
        sentences.extend([stripped] if stripped.startswith("|") else _split_line(stripped))
    return sentences


def _split_line(line: str) -> list[str]:
    sentences: list[str] = []
    begin = 0
    for match in _END.finditer(line):
        # Only as much of either as is looked at: a line may be very long.
        last = line[max(begin, match.start() - _MAX_LAST_WORD) : match.start() + 1]
        is_whole = match.start() + 1 - begin == len(last)
        if _goes_on(last, line[match.end() : match.end() + 1], is_whole=is_whole):
            continue
        sentences.append(line[begin : match.end()].strip())
        begin = match.end()
    if begin < len(line):
        sentences.append(line[begin:].strip())
    return sentences


def _goes_on(end: str, following: str, *, is_whole: bool) -> bool:
    """Say whether the point at the end of this is none that ends the sentence.

    Args:
        end: of the sentence, with the point.
        following: the first character after it and the space, if there is one.
        is_whole: the sentence is no longer than its end.
    """
    if following.islower():
        return True
    word = _LAST_WORD.search(end)
    if word is None:
        return False
    last = word.group(1)
    return (
        last.lower() in _ABBREVIATIONS
        or (last.lower() in _BEFORE_NUMBERS and following.isdigit())
        or (len(last) == 1 and last.isupper())
        or (
            # The number of an item.
            is_whole and last.isdigit() and end == word.group()
        )
    )

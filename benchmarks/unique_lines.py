"""Reads labelled texts of JSON Lines, of which no two may say the same."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


def read_unique(
    lines: bytes, kind: type[T], *, file: str, noun: str, text_of: Callable[[T], str]
) -> Iterator[tuple[str, T]]:
    """Yield each entry with its place, such as ``questions.jsonl, line 3``.

    Args:
        lines: JSON Lines.
        kind: of each line.
        file: its name.
        noun: what a text is called in messages.
        text_of: gives an entry's text.

    Raises:
        ValueError: a line is none of the kind, its text is empty or equals an earlier one.
    """
    number_by_text: dict[str, int] = {}
    for number, line in enumerate(lines.splitlines(), start=1):
        place = f"{file}, line {number}"
        try:
            entry = msgspec.json.decode(line, type=kind)
        except msgspec.DecodeError as error:
            raise ValueError(f"{place}: {error}") from error
        said = text_of(entry)
        text = normalised(said)
        if not text:
            raise ValueError(f"{place}: the {noun} {said!r} is empty or punctuation alone")
        if text in number_by_text:
            raise ValueError(f"{place}: {said!r} is the {noun} of line {number_by_text[text]}")
        number_by_text[text] = number
        yield place, entry


def normalised(text: str) -> str:
    """Return the text without case, punctuation and spaces; equal results are the same text."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    # P: punctuation, Z: spaces, C: line breaks and tabs. Symbols stay: C and C++ are two things.
    return "".join(sign for sign in folded if unicodedata.category(sign)[0] not in "PZC")

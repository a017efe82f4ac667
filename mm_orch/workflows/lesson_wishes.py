"""Reads what a query says plainly of the lesson it asks for: subject, size, level, language."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from mm_orch.workflows.lesson_schema import MAX_EXERCISES
from mm_orch.workflows.lesson_words import WORDS

if TYPE_CHECKING:
    from mm_orch.workflows.lesson_schema import Language, Level

DEFAULT_EXERCISES = 5
MAX_SUBJECT_CHARS = 60

_HAN = re.compile(r"[\u4e00-\u9fff]")
_LETTER = re.compile(r"[^\W\d_]")
# Of the letters: a Chinese query may name things in English, and the other way round.
_HAN_SHARE = 0.3
# A query may be long, and what it asks for stands near its beginning or not at all.
_MAX_READ_CHARS = 2000
_ENGLISH_NUMBERS = (
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
    *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
    "twenty",
)
_HAN_DIGITS = {one: value for value, one in enumerate("零一二三四五六七八九")} | {"两": 2}
_NUMBER = {
    "en": "|".join(sorted(_ENGLISH_NUMBERS, key=len, reverse=True)),
    "zh": "[一二两三四五六七八九十]{1,3}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LessonWishes:
    """What a lesson is to be.

    Attributes:
        subject: in a few words, for headings; the query itself says more.
        num_exercises: 1 to 20.
    """

    subject: str
    language: Language
    level: Level = "general"
    num_exercises: int = DEFAULT_EXERCISES


def read_wishes(query: str) -> LessonWishes:
    """Return what a query says of its lesson; what it does not say has a default."""
    text = " ".join(query[:_MAX_READ_CHARS].split())
    language = find_language(text)
    return LessonWishes(
        subject=find_subject(text, language),
        language=language,
        level=find_level(text, language),
        num_exercises=find_num_exercises(text, language) or DEFAULT_EXERCISES,
    )


def find_language(text: str) -> Language:
    """Return Chinese for a text with enough Chinese characters, else English."""
    num_letters = len(_LETTER.findall(text))
    return "zh" if num_letters and len(_HAN.findall(text)) / num_letters >= _HAN_SHARE else "en"


def find_num_exercises(text: str, language: Language) -> int | None:
    """Return the number of exercises that a text names, at most 20; None where it names none."""
    found = _compile(WORDS[language].wishes.exercises, language).search(text)
    number = _read_number(found[1]) if found else 0
    return min(number, MAX_EXERCISES) or None


def find_level(text: str, language: Language) -> Level:
    """Return the first level of the table that a text names, else ``general``."""
    levels = WORDS[language].levels.items()
    return next(
        (level for level, pattern in levels if _compile(pattern, language).search(text)), "general"
    )


def find_subject(text: str, language: Language) -> str:
    """Return what the lesson is about, in the words of the text: never empty, 60 characters."""
    patterns = WORDS[language].wishes
    rest = text
    for pattern in patterns.before_subject:
        if found := _compile(pattern, language).search(text):
            rest = text[found.end() :]
            break
    parts = _compile(patterns.after_subject, language).split(rest)
    subject = next((part.strip() for part in parts if len(part.strip()) > 1), "")
    bare = _compile(patterns.article, language).sub("", subject).strip()
    return _clip(bare or text.strip()) or "?"


@cache
def _compile(pattern: str, language: Language) -> re.Pattern[str]:
    return re.compile(pattern.replace("<number>", _NUMBER[language]), re.IGNORECASE)


def _clip(text: str) -> str:
    """Cut after a whole word where there is one."""
    if len(text) <= MAX_SUBJECT_CHARS:
        return text
    head = text[: MAX_SUBJECT_CHARS + 1].rpartition(" ")[0].strip()
    return head or text[:MAX_SUBJECT_CHARS]


def _read_number(text: str) -> int:
    if text.isdecimal():
        return int(text)
    if text.isascii():
        return _ENGLISH_NUMBERS.index(text.casefold()) + 1
    tens, ten, ones = text.rpartition("十")
    if not ten:
        return _HAN_DIGITS.get(ones, 0)
    return (_HAN_DIGITS.get(tens, 0) if tens else 1) * 10 + _HAN_DIGITS.get(ones, 0)

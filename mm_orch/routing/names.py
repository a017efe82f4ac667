"""How many names of people, places, firms, products and works a query holds, roughly."""

from __future__ import annotations

import re
from functools import cache

from mm_orch.routing.tables import join_words, load_names

MAX_NAMES = 4
_HAN = re.compile(r"[\u4e00-\u9fff]")
_UPPER = r"[A-Z\u00c0-\u00de]"
_LINK = r"(?:of|the|de|la|von|van|der|du)"
# Words with capitals, and what links them: "University of St Andrews" is one name.
_CAPITALS = re.compile(
    rf"(?<![\w'’.-]){_UPPER}[\w'’&.-]*"  # noqa: RUF001 - both apostrophes are meant
    rf"(?: (?:{_LINK} )?(?:{_UPPER}|\d)[\w'’.-]*)*"  # noqa: RUF001
)
_SENTENCE_START = re.compile(r"(?:^|[.?!:\n\"“(]\s*)$")


def count_names(text: str) -> int:
    """Return how many names the text holds, at most 4."""
    if _HAN.search(text):
        return min(MAX_NAMES, len(set(_known_chinese().findall(text.lower()))))
    names = set()
    for match in _CAPITALS.finditer(text):
        words = match.group().split()
        # A sentence begins with a capital, name or not.
        if _SENTENCE_START.search(text, 0, match.start()):
            words = words[1:]
        kept = [word for word in words if word[0].isupper() and not _is_no_name(word)]
        if kept:
            names.add(kept[-1].lower())
    return min(MAX_NAMES, len(names or set(_known_english().findall(text.lower()))))


def _is_no_name(word: str) -> bool:
    return word.rstrip("'s.,") in _capitalised()


@cache
def _capitalised() -> frozenset[str]:
    return frozenset(load_names().capitalised.split())


@cache
def _known_english() -> re.Pattern[str]:
    known = join_words([name.strip() for name in load_names().english.split(",")])
    return re.compile(rf"(?<![a-z])(?:{known})(?![a-z])")


@cache
def _known_chinese() -> re.Pattern[str]:
    table = load_names()
    return re.compile("|".join([*table.chinese_patterns, join_words(table.chinese.split())]))

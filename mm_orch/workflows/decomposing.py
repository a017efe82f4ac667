"""Takes a question apart by rules, and judges whether a model has done it well: pure.

The rules know comparisons ("Is X larger than Y?", "Which is older, X or Y?", "Compare X and Y"),
questions that are joined by "and", and names that are ("the capitals of X and Y").
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mm_orch.retrieval.sentences import split_sentences
from mm_orch.retrieval.terms import read_question
from mm_orch.workflows.search_prompts import MAX_PART_CHARS, MAX_PARTS, MIN_PARTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

# Of a question's words, that its parts must have together: else something was left out.
_MIN_COVERED = 0.6
_PLAIN_BY_COMPARATIVE = {
    "bigger": "big",
    "broader": "broad",
    "cheaper": "expensive",
    "closer": "far away",
    "colder": "warm",
    "deeper": "deep",
    "faster": "fast",
    "farther": "far away",
    "heavier": "heavy",
    "higher": "high",
    "hotter": "hot",
    "larger": "large",
    "lighter": "heavy",
    "longer": "long",
    "lower": "high",
    "narrower": "wide",
    "nearer": "far away",
    "newer": "old",
    "older": "old",
    "shallower": "deep",
    "shorter": "long",
    "slower": "fast",
    "smaller": "large",
    "taller": "tall",
    "warmer": "warm",
    "wider": "wide",
    "younger": "old",
}
_WIDE_MARK = "\uff1f"
# No rule is for more, and what patterns try grows faster than the text.
_MAX_CHARS = 400
_COMPARATIVE = "|".join(_PLAIN_BY_COMPARATIVE)
_COMPARES = re.compile(rf"\b(?:{_COMPARATIVE}|earlier|later|more|less|fewer|than)\b")
DIFFERENCE = re.compile(rf"([0-9][0-9.,]*)\s+\w+\s+(?:{_COMPARATIVE}|more|less|fewer)\s+than\b")
"""A number that is told as a difference, as in "700 metres higher than"."""
_ASKS = r"(?:who|whom|whose|what|when|where|which|why|how|is|are|was|were|did|does|do|has|have|can)"
_IS = r"(?:is|are|was|were)"
_THAN = re.compile(
    rf"{_IS}\s+(?P<first>.+?)\s+(?:much\s+|any\s+)?(?P<word>{_COMPARATIVE})\s+than\s+(?P<second>.+)",
    re.IGNORECASE,
)
_WHICH = re.compile(
    rf"(?:which|what|who)\b[^,:]*?\b{_IS}\s+(?:the\s+)?(?P<word>{_COMPARATIVE})\b[^,:]*?[,:]\s*"
    r"(?P<first>.+?),?\s+or\s+(?P<second>.+)",
    re.IGNORECASE,
)
_MORE = re.compile(
    r"(?:which|what|who)\b[^,:]*?\b(?:has|have|had)\s+(?:the\s+)?(?:more|most|fewer|less)\s+"
    r"(?P<word>[^,:]+?)\s*[,:]\s*(?P<first>.+?),?\s+or\s+(?P<second>.+)",
    re.IGNORECASE,
)
_EARLIER = re.compile(
    r"(?:which|what|who)\b[^,:]*?\b(?:was|were)\s+(?P<word>\w+)\s+(?:first|last|earlier|later)\s*"
    r"[,:]\s*(?P<first>.+?),?\s+or\s+(?P<second>.+)",
    re.IGNORECASE,
)
_DIFFERENCE = re.compile(
    r"(?:compare|contrast|(?:what|how)\b.*?\bdiffer\w*\s+between|how\s+do)\s+"
    r"(?P<first>.+?)\s+(?:and|with|to)\s+(?P<second>.+?)(?:\s+(?:differ|compare)\b.*)?",
    re.IGNORECASE,
)
_DIFFERS_FROM = re.compile(
    r"how\s+do(?:es)?\s+(?P<first>.+?)\s+(?:differ\s+from|compare\s+(?:to|with))\s+(?P<second>.+)",
    re.IGNORECASE,
)
_BETTER_IN_CHINESE = re.compile(
    r"(?P<first>.+?)(?:和|与|跟|同)(?P<second>.+?)[\uff0c,]?(?:哪个|哪座|哪条|哪一个|谁)(?:更|比较)?(?P<word>\w{1,2})"
)
_JOINED = re.compile(rf",?\s+and\s+(?=(?:in\s+|at\s+|on\s+)?{_ASKS}\b)", re.IGNORECASE)
_NAME = r"(?:the\s+)?[A-Z0-9][\w'\u2019.-]*(?:\s+(?:of\s+(?:the\s+)?)?[A-Z0-9][\w'\u2019.-]*)*"
_NAMES = re.compile(rf"{_NAME}(?:\s*,\s*{_NAME})*,?\s+and\s+{_NAME}")
_BETWEEN_NAMES = re.compile(r"\s*,\s*(?:and\s+)?|\s+and\s+")
# Without one of these, names that are joined may be one name, as Bosnia and Herzegovina is.
_SEVERAL = re.compile(
    r"\b(?:are|were|have|had|both|each|combined|total|together|sum|respectively)\b", re.IGNORECASE
)
_TOGETHER = re.compile(
    r"\b(?:combined|total|joint|together|both|sum\s+of\s+the)\b\s*", re.IGNORECASE
)
_PRONOUN = re.compile(r"\b(?:it|its|he|his|him|she|her|they|their|them)\b", re.IGNORECASE)
_POSSESSIVE = {"its", "his", "her", "their"}
_NAME_WITHIN = re.compile(rf"(?<=[a-z,] ){_NAME}")
_TAIL = re.compile(r"[?\uff1f!.\u3002\s]+$")


def split_by_rules(question: str) -> tuple[str, ...]:
    """Return the parts of a question, two to four; none where no rule knows how it is made."""
    if len(question) > _MAX_CHARS:
        return ()
    asked = [one for one in dict.fromkeys(split_sentences(question)) if _is_question(one)]
    if len(asked) >= MIN_PARTS:
        return tuple(asked[:MAX_PARTS])
    plain = _TAIL.sub("", (asked or [question])[0].strip())
    for split in (_split_comparison, _split_joined_questions, _split_names):
        parts = tuple(dict.fromkeys(split(plain)))
        if len(parts) >= MIN_PARTS:
            return parts[:MAX_PARTS]
    return ()


def choose_useful(question: str, parts: Iterable[str]) -> tuple[str, ...]:
    """Return those of a model's parts that are of use; none where they are not enough.

    A part has a word of the question, is not the question itself, is not too long, compares no more
    where the question does, and names what it is about; together they have most of its words.

    Args:
        question: that was taken apart.
        parts: as the model wrote them.
    """
    content = read_question(question).content
    useful: dict[frozenset[str], str] = {}
    for part in parts:
        words = read_question(part).content
        is_part = bool(words & content) and not words >= content
        if is_part and len(part) <= MAX_PART_CHARS and not _is_left_open(part, question):
            useful.setdefault(words, part.strip())
    covered: set[str] = set().union(*useful) & content
    if len(useful) < MIN_PARTS or len(covered) < _MIN_COVERED * len(content):
        return ()
    return tuple(useful.values())[:MAX_PARTS]


def _is_left_open(part: str, question: str) -> bool:
    """Say whether a part still compares, or is about an "it" that it does not name."""
    still_compares = set(_COMPARES.findall(part.lower())) & set(_COMPARES.findall(question.lower()))
    return bool(still_compares) or (
        _PRONOUN.search(part) is not None and not read_question(part).keys
    )


def _is_question(sentence: str) -> bool:
    return sentence.endswith(("?", _WIDE_MARK)) and any(one.isalnum() for one in sentence)


def _split_comparison(question: str) -> Sequence[str]:
    for pattern, ask in _COMPARISONS:
        match = pattern.fullmatch(question)
        if match is None:
            continue
        things = (match.group("first").strip(), match.group("second").strip())
        word = match.group("word").lower() if "word" in pattern.groupindex else ""
        return [ask(thing, word) for thing in things]
    return ()


def _ask_degree(thing: str, word: str) -> str:
    return f"How {_PLAIN_BY_COMPARATIVE[word]} is {thing}?"


def _ask_number(thing: str, word: str) -> str:
    return f"How many {word} does {thing} have?"


def _ask_moment(thing: str, word: str) -> str:
    return f"When was {thing} {word}?"


def _ask_nature(thing: str, _: str) -> str:
    return f"What is {thing}?"


def _ask_degree_in_chinese(thing: str, word: str) -> str:
    return f"{thing}有多{word}{_WIDE_MARK}"


_COMPARISONS: tuple[tuple[re.Pattern[str], Callable[[str, str], str]], ...] = (
    (_THAN, _ask_degree),
    (_WHICH, _ask_degree),
    (_MORE, _ask_number),
    (_EARLIER, _ask_moment),
    (_DIFFERS_FROM, _ask_nature),
    (_DIFFERENCE, _ask_nature),
    (_BETTER_IN_CHINESE, _ask_degree_in_chinese),
)


def _split_joined_questions(question: str) -> Sequence[str]:
    first, *others = _JOINED.split(question)
    if not others:
        return ()
    names = _NAME_WITHIN.findall(first)
    # Whom a pronoun means is known where there is but one.
    named = names[0] if len(names) == 1 else None
    parts = [first, *(_name_again(other, named) for other in others)]
    return [f"{part[0].upper()}{part[1:]}?" for part in parts]


def _name_again(question: str, name: str | None) -> str:
    if name is None:
        return question

    def write(match: re.Match[str]) -> str:
        return f"{name}'s" if match.group().lower() in _POSSESSIVE else name

    return _PRONOUN.sub(write, question, count=1)


def _split_names(question: str) -> Sequence[str]:
    found = [match for match in _NAMES.finditer(question) if match.start() > 0]
    if len(found) != 1 or not _SEVERAL.search(question):
        return ()
    [match] = found
    before, after = question[: match.start()], question[match.end() :]
    frame = _TOGETHER.sub("", f"{before}\0{after}")
    return [
        f"{frame.replace(chr(0), name).strip()}?" for name in _BETWEEN_NAMES.split(match.group())
    ]

"""Reads what an answer comes to, so that answers in different words can be the same."""

from __future__ import annotations

import re
import unicodedata

# fmt: off
_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
# Without them an answer says the same.
_EMPTY_WORDS = frozenset((
    "a", "an", "the", "is", "are", "was", "were", "be", "it", "its", "it's", "that", "this",
    "there", "of", "to", "in", "on", "at", "and", "so", "has", "have", "had", "will", "would",
    "you", "i", "answer", "final", "correct", "called", "known", "as", "equals", "equal", "result",
))
# fmt: on
_NUMBER_BY_WORD = {
    **{word: number for number, word in enumerate(_UNITS)},
    **{word: 10 * number for number, word in enumerate(_TENS, start=2)},
    **{
        f"{tens} {unit}": 10 * number + place
        for number, tens in enumerate(_TENS, start=2)
        for place, unit in enumerate(_UNITS[1:10], start=1)
    },
    **{
        f"{lead}{word}": number
        for word, number in (("hundred", 100), ("thousand", 1000))
        for lead in ("", "a ", "one ")
    },
}
_SPELLED = re.compile(r"\b(" + "|".join(sorted(_NUMBER_BY_WORD, key=len, reverse=True)) + r")\b")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
# A number with its fraction; a sign of a language that puts no spaces between words; a word.
_WORD = re.compile(
    r"\d+(?:\.\d+)?|[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
    r"|[^\W_\d\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff][^\W_\u3040-\u30ff\u3400-\u9fff]*"
    r"(?:'[^\W_]+)*"
)
_MARKUP = str.maketrans("", "", "*`")
_OPTION = re.compile(r"(?:^|\s)\(?([A-J])[).] (.+?)(?=\s\(?[A-J][).] |\n|$)")
_LETTER_ALONE = re.compile(r"\b([A-J])(?=[).:]|\s*$)")
_YES_OR_NO = {"yes": "yes", "no": "no", "true": "yes", "false": "no"}


def split_words(text: str) -> list[str]:
    """Return the words of a text in small letters: numbers in digits, signs of Chinese alone."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    plain = _THOUSANDS.sub("", folded).replace("-", " ")
    return _WORD.findall(_SPELLED.sub(lambda found: str(_NUMBER_BY_WORD[found[1]]), plain))


def find_option(question: str, text: str) -> str | None:
    """Return the letter of the option of a question that a text chooses, or None.

    It is the first letter that stands alone; without one, the only option that the text names.

    Args:
        question: with its options, such as ``A) apple B) river``.
        text: the answer.
    """
    options = {str(letter): split_words(option) for letter, option in _OPTION.findall(question)}
    if len(options) < 2:  # noqa: PLR2004 - one is no choice
        return None
    letters: list[str] = [
        one for one in _LETTER_ALONE.findall(text.translate(_MARKUP)) if one in options
    ]
    if letters:
        return letters[0]
    said = split_words(text)
    named = [letter for letter, option in options.items() if has_words(said, option)]
    return named[0] if len(named) == 1 else None


def has_words(said: list[str], wanted: list[str]) -> bool:
    """Whether some words stand in a row among others; no words do nowhere."""
    size = len(wanted)
    places = range(len(said) - size + 1)
    return size > 0 and any(said[place : place + size] == wanted for place in places)


def find_gist(question: str, text: str) -> tuple[str, ...]:
    """Return the words that an answer comes to; equal ones are the same answer.

    The letter of an option, yes or no; else what the answer adds to the words of the question.
    "The capital of France is Paris." and "Paris" come to the same.

    Args:
        question: that was asked; empty where that is not known.
        text: the answer.
    """
    option = find_option(question, text)
    if option is not None:
        return (option.lower(),)
    words = split_words(text)
    if words and words[0] in _YES_OR_NO:
        return (_YES_OR_NO[words[0]],)
    told = {*split_words(question), *_EMPTY_WORDS}
    added = tuple(dict.fromkeys(word for word in words if word not in told))
    return added or tuple(words)

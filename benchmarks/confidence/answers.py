"""Says whether a model's answer to a question is right, by what it commits itself to."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.confidence.questions import Question

# A right word somewhere in a long text is a lucky hit.
_MAX_SENTENCE_WORDS = 20
# fmt: off
_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
# fmt: on
_NUMBER_BY_WORD = {
    **{word: number for number, word in enumerate(_UNITS)},
    **{word: 10 * number for number, word in enumerate(_TENS, start=2)},
    **{
        f"{tens} {unit}": 10 * number + place
        for number, tens in enumerate(_TENS, start=2)
        for place, unit in enumerate(_UNITS[1:10], start=1)
    },
    "hundred": 100,
    "one hundred": 100,
    "a hundred": 100,
    "thousand": 1000,
    "one thousand": 1000,
    "a thousand": 1000,
}
_SPELLED = re.compile(r"\b(" + "|".join(sorted(_NUMBER_BY_WORD, key=len, reverse=True)) + r")\b")
_DIGITS = re.compile(r"\d+(?:\.\d+)?")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_OPTION = re.compile(r"\b([A-Z])\) (.+?)(?= [A-Z]\) |$)")
_LETTER_ALONE = re.compile(r"\b([A-C])(?=[).:]|\s*$)")
_YES_OR_NO = re.compile(r"\b(yes|no)\b")
_HEDGES = frozenset({"or", "not", "either", "neither", "nor", "isn't", "aren't"})


def is_right(question: Question, text: str) -> bool:
    """Whether an answer is right.

    number: the last one in the text, in digits or in words.
    words: the first sentence has one of the answers as whole words, is no longer than 20 words, and
        neither denies nor offers a choice.
    yes_no: the first of both words.
    letter: the first letter that stands alone; without one, the only option that is named.

    Args:
        question: with its form and its answers.
        text: what the model said.
    """
    match question.form:
        case "number":
            return find_number(text) == float(question.answers[0])
        case "words":
            return _has_words(question.answers, text)
        case "yes_no":
            found = _YES_OR_NO.search(_folded(text))
            return found is not None and found[1] == question.answers[0]
        case "letter":
            return find_letter(question.question, text) == question.answers[0]


def find_number(text: str) -> float | None:
    """Return the last number of a text, or None."""
    plain = re.sub(r"(?<=\d),(?=\d{3}\b)", "", _folded(text)).replace("-", " ")
    digits = _SPELLED.sub(lambda found: str(_NUMBER_BY_WORD[found[1]]), plain)
    numbers = _DIGITS.findall(digits)
    return float(numbers[-1]) if numbers else None


def find_letter(question: str, text: str) -> str | None:
    """Return the letter of the option that a text chooses, or None."""
    letters = _LETTER_ALONE.findall(text.replace("*", ""))
    if letters:
        return str(letters[0])
    padded = f" {_words(text)} "
    named = [
        letter for letter, option in _OPTION.findall(question) if f" {_words(option)} " in padded
    ]
    return named[0] if len(named) == 1 else None


def _has_words(answers: tuple[str, ...], text: str) -> bool:
    sentences = [one for one in _SENTENCE_END.split(text.strip()) if _words(one)]
    if not sentences:
        return False
    words = _words(sentences[0])
    said = words.split()
    if len(said) > _MAX_SENTENCE_WORDS or _HEDGES & set(said):
        return False
    return any(f" {_words(answer)} " in f" {words} " for answer in answers)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")


def _words(text: str) -> str:
    """Return the words of a text, in small letters, a space between two."""
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", _folded(text)))

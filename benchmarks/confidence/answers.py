"""Says whether a model's answer to a question is right, by what it commits itself to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mm_orch.consciousness.short_answers import find_option, has_words, split_words

if TYPE_CHECKING:
    from benchmarks.confidence.questions import Question

# A right word somewhere in a long text is a lucky hit.
_MAX_SENTENCE_WORDS = 20
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
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
            found = [word for word in split_words(text) if word in {"yes", "no"}]
            return found[:1] == [question.answers[0]]
        case "letter":
            return find_option(question.question, text) == question.answers[0]


def find_number(text: str) -> float | None:
    """Return the last number of a text, or None."""
    numbers = [word for word in split_words(text) if _NUMBER.fullmatch(word)]
    return float(numbers[-1]) if numbers else None


def _has_words(answers: tuple[str, ...], text: str) -> bool:
    sentences = [words for one in _SENTENCE_END.split(text) if (words := split_words(one))]
    if not sentences:
        return False
    said = sentences[0]
    if len(said) > _MAX_SENTENCE_WORDS or _HEDGES & set(said):
        return False
    return any(has_words(said, split_words(answer)) for answer in answers)

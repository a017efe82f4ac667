"""Says of what a model wrote for a lesson whether it can be used: pure, mechanical, of no topic."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mm_orch.workflows.lesson_schema import Language

# A word, or one Chinese character.
_WORD = re.compile(r"[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]+(?:['\u2019][^\W_]+)?")
_HAN = re.compile(r"[\u4e00-\u9fff]")
_SENTENCE_END = {
    "en": re.compile(r"(?<=[.!?])\s+(?=[\"\u201c(]?[A-Z0-9])"),
    "zh": re.compile(r"(?<=[\u3002\uff01\uff1f])"),
}
_FINISHED = re.compile(r"[.!?\u3002\uff01\uff1f][\"\u201d\u2019)\uff09]?$")

# Of the words of both together: a question with one word changed is the same exercise.
_SAME_SHARE = 0.8
# Text that goes round in circles: the same few words, or one phrase again and again.
_MIN_WORDS_OF_CIRCLE = 10
_MIN_DIFFERENT_SHARE = 0.4
_PHRASE_WORDS = 3
_MAX_PHRASE_COUNT = 2
_MIN_TEXT_WORDS = {"en": 12, "zh": 20}
_MIN_QUESTION_WORDS = {"en": 3, "zh": 4}
_MIN_HAN_SHARE = 0.5
_PLACEHOLDERS = frozenset(
    (
        *("answer", "the answer", "answer here", "your answer", "question", "n a", "none"),
        *("unknown", "答 案", "答", "问 题", "无", "略"),
    )
)


def words_of(text: str) -> list[str]:
    """Return the words of a text, folded; of Chinese, its characters."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def normalise(text: str) -> str:
    """Return a text without what makes no difference: case, blanks, punctuation, widths."""
    return " ".join(words_of(text))


def tidy(text: str) -> str:
    """Return a text with single blanks, and none around it."""
    return " ".join(text.split())


def is_same(one: str, other: str) -> bool:
    """Whether two texts say the same, but for case, punctuation, order and one word in five."""
    first, second = set(words_of(one)), set(words_of(other))
    if not first or not second:
        return not first and not second
    return len(first & second) / len(first | second) >= _SAME_SHARE


def is_any_same(text: str, others: Iterable[str]) -> bool:
    """Whether a text says the same as one of the others."""
    return any(is_same(text, other) for other in others)


def goes_in_circles(text: str) -> bool:
    """Whether a text repeats itself, as small models do when they have no more to say."""
    words = words_of(text)
    phrases = Counter(zip(*(words[first:] for first in range(_PHRASE_WORDS)), strict=False))
    if phrases and max(phrases.values()) > _MAX_PHRASE_COUNT:
        return True
    is_long = len(words) >= _MIN_WORDS_OF_CIRCLE
    # Of Chinese, characters are counted, of which any text has many twice.
    is_chinese = sum(map(bool, map(_HAN.match, words))) > len(words) / 2
    return is_long and not is_chinese and len(set(words)) / len(words) < _MIN_DIFFERENT_SHARE


def split_sentences(text: str, language: Language) -> list[str]:
    """Return the sentences of a text, in order, the unfinished one at its end among them."""
    return [one.strip() for one in _SENTENCE_END[language].split(text) if one.strip()]


def is_finished(sentence: str) -> bool:
    """Whether a sentence has its end."""
    return bool(_FINISHED.search(sentence))


def keep_sentences(text: str, language: Language) -> str:
    """Return a text without sentences that it has said before, and without an unfinished last one.

    Where no sentence is finished, the text is left as it is.
    """
    sentences = split_sentences(tidy(text), language)
    finished = [one for one in sentences if is_finished(one)] or sentences
    kept: list[str] = []
    for sentence in finished:
        if not is_any_same(sentence, kept):
            kept.append(sentence)
    return ("" if language == "zh" else " ").join(kept)


def is_in_language(text: str, language: Language) -> bool:
    """Whether a text is mostly Chinese, or mostly not."""
    words = words_of(text)
    share = sum(map(bool, map(_HAN.match, words))) / len(words) if words else 0.0
    return share >= _MIN_HAN_SHARE if language == "zh" else share < _MIN_HAN_SHARE


def find_fault_of_line(line: str, language: Language, *, others: Iterable[str]) -> str:
    """Say why a title, heading or objective cannot be used; empty where it can.

    Args:
        line: one line, tidied.
        language: of the lesson.
        others: lines that it must differ from.
    """
    if not words_of(line) or normalise(line) in _PLACEHOLDERS:
        return "it says nothing"
    if not is_in_language(line, language):
        return "it is in another language"
    if goes_in_circles(line):
        return "it repeats itself"
    if is_any_same(line, others):
        return "it is a repetition"
    return ""


def find_fault_of_text(
    text: str, language: Language, *, shown: Iterable[str], others: Iterable[str]
) -> str:
    """Say why the text of a section cannot be used; empty where it can.

    Args:
        text: tidied.
        language: of the lesson.
        shown: what the model was told to write about, which is no explanation.
        others: texts of other sections.
    """
    if len(words_of(text)) < _MIN_TEXT_WORDS[language]:
        return "it is too short"
    if is_any_same(text, shown):
        return "it is a copy of what was asked"
    return find_fault_of_line(text, language, others=others)


def find_fault_of_exercise(
    question: str,
    answer: str,
    language: Language,
    *,
    shown: Sequence[str],
    others: Iterable[str],
) -> str:
    """Say why an exercise cannot be used; empty where it can.

    Args:
        question: tidied, as is the answer.
        answer: to the question.
        language: of the lesson.
        shown: what the model was told: its task, and what it may not ask again.
        others: questions that the lesson has.
    """
    faults = {
        "the question says nothing": len(words_of(question)) < _MIN_QUESTION_WORDS[language],
        "the answer says nothing": not words_of(answer) or normalise(answer) in _PLACEHOLDERS,
        "it is in another language": not is_in_language(question, language),
        "it repeats itself": goes_in_circles(question) or goes_in_circles(answer),
        "the answer is the question": is_same(question, answer)
        or normalise(question) in normalise(answer),
        "it is a copy of what was asked": is_any_same(question, shown),
        "it is a repetition": is_any_same(question, others),
    }
    return next((words for words, is_so in faults.items() if is_so), "")

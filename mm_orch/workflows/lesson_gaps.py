"""Makes exercises of an explanation's own sentences, where a model gave none that can be used.

A sentence is shown without one of its words; the word is the answer. So the exercise is about the
subject, and its answer is what the lesson says.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.workflows.lesson_checks import is_any_same, split_sentences, words_of
from mm_orch.workflows.lesson_schema import MAX_QUESTION_CHARS, Exercise
from mm_orch.workflows.lesson_words import WORDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mm_orch.workflows.lesson_schema import Language, Section

GAP = "_____"
_TERM = {"en": re.compile(r"[^\W\d_]{4,}"), "zh": re.compile(r"[\u4e00-\u9fff]+")}
# Characters of a Chinese term; where its words end is not known.
_NUM_HAN = 2
_MIN_WORDS = {"en": 5, "zh": 8}
# Words that could be guessed without the lesson, and would teach nothing.
_COMMON = frozenset(
    (
        *("that", "this", "these", "those", "with", "from", "into", "they", "them", "their"),
        *("there", "then", "than", "when", "where", "which", "while", "what", "will", "would"),
        *("should", "could", "about", "after", "also", "because", "been", "before", "being"),
        *("between", "both", "each", "have", "having", "here", "more", "most", "much", "must"),
        *("only", "other", "over", "same", "some", "such", "through", "under", "very", "were"),
        *("your", "yours", "does", "doing", "done", "like", "made", "make", "makes", "many"),
        *("often", "used", "uses", "using", "well", "know", "known", "called", "example"),
        *("important", "different", "things", "thing", "people"),
    )
)
# Characters that hold Chinese sentences together; a term with one of them is none.
_COMMON_HAN = frozenset(
    "的了是在和与或也就都而及于以为之其这那有不个一我你他她它们把被让到从对中上下来去会能可要"
)


@dataclass(frozen=True, slots=True)
class _Sentence:
    text: str
    terms: tuple[str, ...]


def make_gaps(
    sections: Sequence[Section], language: Language, *, num_wanted: int, others: Iterable[str] = ()
) -> list[Exercise]:
    """Return exercises of the sections' sentences, one of each sentence at most.

    They come from the sections in turn. There may be fewer than are wanted: sentences that are too
    short or too long, or without a word worth asking for, give none.

    Args:
        sections: of the explanation.
        language: of the lesson.
        num_wanted: the most that are returned.
        others: questions that the lesson has.
    """
    counts = Counter(term for section in sections for term in _find_terms(section.text, language))
    asked, made = list(others), list[Exercise]()
    for sentence in _in_turn([_read_sentences(one, language) for one in sections]):
        if len(made) == num_wanted:
            break
        # What the lesson speaks of most; of equal ones the longest, then the first.
        term = max(sentence.terms, key=lambda one: (counts[one.casefold()], len(one)))
        question = WORDS[language].gap.format(sentence=_blank_out(sentence.text, term, language))
        if len(question) <= MAX_QUESTION_CHARS and not is_any_same(question, asked):
            made.append(Exercise(kind="gap", question=question, answer=term))
            asked.append(question)
    return made


def _read_sentences(section: Section, language: Language) -> Iterator[_Sentence]:
    for text in split_sentences(section.text, language):
        terms = tuple(_find_terms(text, language, is_folded=False))
        if terms and len(words_of(text)) >= _MIN_WORDS[language]:
            yield _Sentence(text, terms)


def _find_terms(text: str, language: Language, *, is_folded: bool = True) -> Iterator[str]:
    for found in _TERM[language].findall(text):
        if language == "zh":
            for first in range(len(found) - _NUM_HAN + 1):
                term = found[first : first + _NUM_HAN]
                if not _COMMON_HAN & set(term):
                    yield term
        elif found.casefold() not in _COMMON:
            yield found.casefold() if is_folded else found


def _blank_out(sentence: str, term: str, language: Language) -> str:
    pattern = re.escape(term) if language == "zh" else rf"\b{re.escape(term)}\b"
    # Everywhere: the answer must not stand in the question.
    return re.sub(pattern, GAP, sentence, flags=re.IGNORECASE)


def _in_turn(groups: Sequence[Iterator[_Sentence]]) -> Iterator[_Sentence]:
    """Yield the first of each group, then the second of each, and so on."""
    left = list(groups)
    while left:
        for group in tuple(left):
            sentence = next(group, None)
            if sentence is None:
                left.remove(group)
            else:
                yield sentence

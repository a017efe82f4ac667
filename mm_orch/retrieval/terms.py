"""The words of a text as they are compared: small, without endings, codes whole and in parts."""

from __future__ import annotations

import re
from dataclasses import dataclass

# A word may have an apostrophe in it; a code may be joined by the marks that part numbers, dates
# and shelf marks have.
_TOKEN = re.compile(r"[^\W_]+(?:['\u2019\-/.,:][^\W_]+)*")
_PART = re.compile(r"[^\W_]+")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")
# Chinese, Japanese and Korean, which put no spaces between words.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]+")
_ENDINGS = ("ing", "ies", "ied", "ed", "es", "ly", "s")
_MIN_STEM = 3

_STOP_LINES = """
    a about after all also an and any are as at be because been before being between both but by can
    could did do does doing down during each few for from further had has have having he her hers
    him his how i if in into is it its itself just may me might more most much many must my no nor
    not now of off on once one only or other our out over own same shall she should so some such
    than that the their them then there these they this those through to too under until up upon us
    very was we were what when where which while who whom whose why will with would you your
"""
STOP_WORDS = frozenset(_STOP_LINES.split())
"""Words that nearly every text has."""


@dataclass(frozen=True, slots=True)
class QuestionTerms:
    """What a question asks about.

    Attributes:
        content: all its terms but the commonest words.
        keys: those of them that are names, numbers and codes, which an answer cannot be without.
    """

    content: frozenset[str]
    keys: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    starts_sentence: bool

    @property
    def has_digit(self) -> bool:
        return any(one.isdigit() for one in self.text)

    @property
    def is_capitalised(self) -> bool:
        return self.text[0].isupper()


def terms_of(text: str) -> list[str]:
    """Return the terms of a text, in order; a code gives itself and its parts."""
    return [term for token in _tokens(text) for term in _terms_of_token(token.text)]


def read_question(question: str) -> QuestionTerms:
    """Return the terms that a question looks for."""
    content: set[str] = set()
    keys: set[str] = set()
    tokens = _tokens(question)
    for index, token in enumerate(tokens):
        if token.text.lower() in STOP_WORDS and not token.has_digit:
            continue
        terms = _terms_of_token(token.text)
        content.update(terms)
        if token.has_digit or _is_name(tokens, index):
            # Of a code the whole, which comes first; its parts are found anywhere.
            keys.add(terms[0])
    return QuestionTerms(frozenset(content - STOP_WORDS), frozenset(keys - STOP_WORDS))


def facts_of(sentence: str) -> frozenset[str]:
    """Return the numbers, codes and names of a statement, which its source must have."""
    return read_question(sentence).keys


def _is_name(tokens: list[_Token], index: int) -> bool:
    token = tokens[index]
    if not token.is_capitalised:
        return False
    if not token.starts_sentence:
        return True
    # Any word is written so there; a name of several words shows by the next one.
    following = tokens[index + 1] if index + 1 < len(tokens) else None
    return following is not None and not following.starts_sentence and following.is_capitalised


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    end = 0
    for match in _TOKEN.finditer(text):
        gap = text[end : match.start()]
        starts = not tokens or any(mark in gap for mark in ".!?\n|")
        end = match.end()
        tokens.extend(_Token(part, starts) for part in _cut_unspaced(match.group()))
    return tokens


def _cut_unspaced(token: str) -> list[str]:
    """Return pairs of neighbouring characters where a script has no spaces, else the token."""
    if not _UNSPACED.search(token):
        return [token]
    parts: list[str] = []
    end = 0
    for match in _UNSPACED.finditer(token):
        parts.extend(_TOKEN.findall(token[end : match.start()]))
        run = match.group()
        parts.extend([run] if len(run) == 1 else [run[at : at + 2] for at in range(len(run) - 1)])
        end = match.end()
    return [*parts, *_TOKEN.findall(token[end:])]


def _terms_of_token(token: str) -> list[str]:
    token = token.lower().replace("\u2019", "'")
    if any(one.isdigit() for one in token):
        if _THOUSANDS.fullmatch(token):
            return [token.replace(",", "")]
        parts = _PART.findall(token)
        return [token] if len(parts) == 1 else [token, *parts]
    return [_stem(part) for part in re.split(r"[\-/.,:]", token)]


def _stem(word: str) -> str:
    """Return a word without its commonest English endings; what is left need not be a word."""
    word = word.removesuffix("'s").replace("'", "")
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _MIN_STEM and word[-2:] != "ss":
            word = word[: -len(ending)] + ("y" if ending in {"ies", "ied"} else "")
            break
    if len(word) > _MIN_STEM and word.endswith("e"):
        word = word[:-1]
    # As in "stopped"; "fill" and "file" stay two words.
    if len(word) > _MIN_STEM and word[-1] == word[-2] and word[-1] not in "aeioulsfz":
        word = word[:-1]
    return word

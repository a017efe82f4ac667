"""Makes of any text a query for FTS5, and what FTS5 needs of text that has no blanks.

English and most other languages are cut into words by FTS5 itself. Chinese, Japanese and Korean
text is indexed and asked for by overlapping pairs of characters, as Lucene's CJKAnalyzer does it:
most of its words are two characters, and FTS5's own trigrams find nothing below three.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# More than a question has; each costs a look into the index.
_MAX_TERMS = 64
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_RUN = re.compile(f"[{_CJK}]+")
_WORD = re.compile(r"\w+")
_COLUMNS = "{heading content pairs}"


def pairs_of(text: str) -> str:
    """Return the pairs of Chinese, Japanese and Korean characters, with blanks between them."""
    # With the last character of each run, so that every one of them begins a word.
    return " ".join(word for run in _RUN.findall(text) for word in (*_cut(run), run[-1]))


def owner_word(owner: str) -> str:
    """Return a word that stands for an owner, so that the index looks at its texts alone."""
    return hashlib.sha256(owner.encode()).hexdigest()[:32]


def make_match(owner: str, query: str) -> str | None:
    """Return the FTS5 expression for texts of this owner with any word of the query.

    None where the query has no words. What stands in the query is taken for words, never for
    FTS5's own syntax.
    """
    terms = list(dict.fromkeys(_terms_of(unicodedata.normalize("NFC", query))))[:_MAX_TERMS]
    if not terms:
        return None
    return f'owner_word : "{owner_word(owner)}" AND {_COLUMNS} : ({" OR ".join(terms)})'


def _terms_of(query: str) -> Iterator[str]:
    # A word has no quotation marks, so nothing ends the string that it is put in.
    for word in _WORD.findall(query):
        for part in _RUN.split(word):
            if part.strip("_"):
                yield f'"{part.lower()}"'
        for run in _RUN.findall(word):
            if len(run) == 1:
                yield f'"{run}"*'
            else:
                yield from (f'"{pair}"' for pair in _cut(run))


def _cut(run: str) -> list[str]:
    return [run[place : place + 2] for place in range(len(run) - 1)]

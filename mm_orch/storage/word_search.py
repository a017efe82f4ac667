"""Makes of any text a query, and what an index needs of text that has no blanks.

English and most other languages are cut into words by FTS5 itself; for PostgreSQL it is done here,
by the same rule. Chinese, Japanese and Korean
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

MAX_TERMS = 64
"""More than a question has; each costs a look into the index."""
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_RUN = re.compile(f"[{_CJK}]+")
_WORD = re.compile(r"\w+")
_LETTERS = str.maketrans("0123456789", "ghijklmnop")
_COLUMNS = "{heading content pairs}"


def pairs_of(text: str) -> str:
    """Return the pairs of Chinese, Japanese and Korean characters, with blanks between them."""
    # With the last character of each run, so that every one of them begins a word.
    return " ".join(word for run in _RUN.findall(text) for word in (*_cut(run), run[-1]))


def owner_word(owner: str) -> str:
    """Return a word that stands for an owner, so that the index looks at its texts alone."""
    return hashlib.sha256(owner.encode()).hexdigest()[:32]


def owner_letters(owner: str) -> str:
    """Return the same word in letters alone, which is one word by everybody's rules."""
    return owner_word(owner).translate(_LETTERS)


def plain_words(text: str) -> list[str]:
    """Return the words of a text for an index: small letters without accents, and the pairs."""
    parts = (_bare(part) for part in _parts_of(unicodedata.normalize("NFC", text)))
    return [*filter(None, parts), *pairs_of(text).split()]


def query_terms(query: str) -> list[str]:
    """Return what a query asks for, as PostgreSQL's ``to_tsquery`` takes it, each once.

    Words and pairs stand in quotation marks; one Chinese, Japanese or Korean character by itself is
    the beginning of a pair.
    """
    text = unicodedata.normalize("NFC", query)
    words = [f"'{bare}'" for part in _parts_of(text) if (bare := _bare(part))]
    for run in _RUN.findall(text):
        words += [f"'{pair}'" for pair in _cut(run)] if len(run) > 1 else [f"'{run}':*"]
    return list(dict.fromkeys(words))


def make_match(owner: str, query: str) -> str | None:
    """Return the FTS5 expression for texts of this owner with any word of the query.

    None where the query has no words. What stands in the query is taken for words, never for
    FTS5's own syntax.
    """
    terms = list(dict.fromkeys(_terms_of(unicodedata.normalize("NFC", query))))[:MAX_TERMS]
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


def _parts_of(text: str) -> Iterator[str]:
    """Yield the words of a text, without what is searched by pairs."""
    for word in _WORD.findall(text):
        for part in _RUN.split(word.replace("_", " ")):
            yield from part.split()


def _bare(word: str) -> str:
    """Return a word in small letters without accents."""
    spread = unicodedata.normalize("NFD", word.lower())
    return "".join(sign for sign in spread if not unicodedata.combining(sign))


def _cut(run: str) -> list[str]:
    return [run[place : place + 2] for place in range(len(run) - 1)]

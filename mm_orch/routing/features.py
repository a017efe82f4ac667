"""Features of a query for the learned router: hashed n-grams, and pairs of what rules saw."""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mm_orch.routing.query import Query
    from mm_orch.routing.route import RouteContext
    from mm_orch.routing.rules import Evidence

# Change it whenever the same query would get other features: weights are bound to it.
FEATURES_VERSION = 3
NUM_BUCKETS = 1 << 16
MIN_NGRAM_CHARS = 2
MAX_NGRAM_CHARS = 5
MAX_NGRAM_WORDS = 3
_NUM_EDGE_WORDS = 3
_HASH_SEED = 0x5EED
# How much features count for: those of a kind are a vector of this length.
_CHARS, _EDGES, _PAIRS = 1.0, 1.0, 1.2
_WORDS, _WITH_DOCUMENTS = 1.0, 0.7
# A Chinese word is a sign here; in cross-validation runs of them say most.
_CHINESE_WORDS, _CHINESE_WITH_DOCUMENTS = 3.0, 2.0
SIGNAL_SCALE = 0.4

_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"[\u4e00-\u9fff]|[a-z]+(?:'[a-z]+)?|\d+|\S")
_LATIN_WORD = re.compile(r"[a-z]{2,}")


def hash_features(query: Query, context: RouteContext, evidence: Evidence) -> dict[int, float]:
    """Return the weight of each bucket, 0 to NUM_BUCKETS - 1, that a feature is in."""
    text = _DIGITS.sub("0", query.text)
    words = ["^", *_WORD.findall(text), "$"]
    buckets: dict[int, float] = {}
    _add(buckets, "c", _char_ngrams(f" {text} "), _CHARS)
    word_ngrams = _word_ngrams(words)
    _add(buckets, "w", word_ngrams, _CHINESE_WORDS if query.is_chinese else _WORDS)
    _add(buckets, "e", _edges(words[1:-1]), _EDGES)
    if context.has_documents:
        # The same words bear on a file where there is one.
        length = _CHINESE_WITH_DOCUMENTS if query.is_chinese else _WITH_DOCUMENTS
        _add(buckets, "d", word_ngrams, length)
    # What one sign means depends on the others.
    pairs = [f"{one}&{other}" for one, other in combinations(sorted(evidence.values), 2)]
    _add(buckets, "p", pairs, _PAIRS)
    return buckets


def find_latin_words(query: Query) -> list[str]:
    """Return the words of two and more Latin letters, in order."""
    return _LATIN_WORD.findall(query.text)


def _char_ngrams(text: str) -> list[str]:
    return [
        text[start : start + length]
        for length in range(MIN_NGRAM_CHARS, MAX_NGRAM_CHARS + 1)
        for start in range(len(text) - length + 1)
    ]


def _word_ngrams(words: list[str]) -> list[str]:
    return [
        " ".join(words[start : start + length])
        for length in range(1, MAX_NGRAM_WORDS + 1)
        for start in range(len(words) - length + 1)
    ]


def _edges(words: list[str]) -> list[str]:
    beginnings = [" ".join(words[:length]) for length in range(1, _NUM_EDGE_WORDS + 1)]
    return [*beginnings, *(f"{word}$" for word in words[-_NUM_EDGE_WORDS:])]


def _add(buckets: dict[int, float], kind: str, ngrams: list[str], length: float) -> None:
    """Add n-grams to their buckets: log counts, as a vector of this length."""
    weights = {ngram: 1 + math.log(count) for ngram, count in Counter(ngrams).items()}
    norm = math.sqrt(sum(weight * weight for weight in weights.values())) or 1.0
    seed = zlib.crc32(kind.encode(), _HASH_SEED)
    for ngram, weight in weights.items():
        bucket = zlib.crc32(ngram.encode("utf-8", "replace"), seed) % NUM_BUCKETS
        buckets[bucket] = buckets.get(bucket, 0.0) + length * weight / norm

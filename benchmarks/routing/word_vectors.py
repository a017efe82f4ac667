"""What words mean, as features to learn from; of each word only what it speaks for is kept."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

VECTORS_PATH = Path(__file__).with_name("word_vectors.npz")
# A word that is so frequent counts half (Arora, Liang and Ma 2017, "A Simple but Tough-to-Beat
# Baseline for Sentence Embeddings").
_HALF_FREQUENCY = 1e-3
_SCALE = 1.5
_UNKNOWN_SCALE = 0.5


class WordVectors:
    """Vectors of the words that are known, and one for all others, the first.

    Args:
        words_of_queries: those of each query that is learned from, which say how frequent each is.
    """

    def __init__(self, words_of_queries: Sequence[Sequence[str]]) -> None:
        with np.load(VECTORS_PATH, allow_pickle=False) as arrays:
            known = arrays["words"].tobytes().decode("ascii").split("\n")
            vectors = arrays["vectors"] * arrays["unit"]
        counts = Counter(word for words in words_of_queries for word in words)
        total = max(1, counts.total())
        rarities = [_HALF_FREQUENCY / (_HALF_FREQUENCY + counts[word] / total) for word in known]
        self.words = ("", *known)
        self._place_by_word = {word: place for place, word in enumerate(self.words)}
        self._vectors = np.zeros((len(self.words), vectors.shape[1] + 1))
        self._vectors[0, -1] = _UNKNOWN_SCALE * _SCALE
        self._vectors[1:, :-1] = vectors * np.array(rarities)[:, None] * _SCALE

    @property
    def num_columns(self) -> int:
        """Of features: a query's words, and again where there are documents."""
        return 2 * int(self._vectors.shape[1])

    def features(self, words: Sequence[str], *, has_documents: bool) -> NDArray[np.float64]:
        """Return the features of a query's words, whatever their order."""
        if not words:
            return np.zeros(self.num_columns)
        places = [self._place_by_word.get(word, 0) for word in words]
        always = self._vectors[places].sum(axis=0) / math.sqrt(len(words))
        return np.concatenate([always, has_documents * always])

    def weigh(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what each word speaks for: words x (workflows, and again for documents).

        Args:
            weights: of the features, num_columns x workflows.
        """
        always, with_documents = np.split(weights, 2)
        both = np.hstack([self._vectors @ always, self._vectors @ with_documents])
        return both.astype(np.float32)

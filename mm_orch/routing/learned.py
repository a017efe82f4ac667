"""The learned router: multinomial logistic regression over hashed features, words and signals."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import msgspec
import numpy as np

from mm_orch.routing.features import (
    FEATURES_VERSION,
    NUM_BUCKETS,
    SIGNAL_SCALE,
    find_latin_words,
    hash_features,
)
from mm_orch.routing.route import WORKFLOWS
from mm_orch.routing.rules import to_shares
from mm_orch.routing.tables import digest_tables

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mm_orch.routing.query import Query
    from mm_orch.routing.route import RouteContext
    from mm_orch.routing.rules import Evidence

LEARNED_PATH = Path(__file__).with_name("learned_weights.npz")
_FORMAT = 2
_NO_WORD = 0


class LearnedHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What weights were made of and how they are read.

    Attributes:
        format: of the file.
        features_version: of the code that makes features.
        num_buckets: of hashed features.
        tables_digest: of the tables of signals, whose values are features too.
        queries_digest: of the labelled queries that were learned from.
        workflows: the order of the columns.
        signal_keys: the order of the rows of signal weights.
        temperature: what scores are divided by, so that confidence is the share of right answers.
        min_confidence: below it the rules are asked.
    """

    format: int
    features_version: int
    num_buckets: int
    tables_digest: str
    queries_digest: str
    workflows: tuple[str, ...]
    signal_keys: tuple[str, ...]
    temperature: float
    min_confidence: float


class LearnedModel:
    """Weights, ready to score queries.

    Args:
        header: says how the weights are read.
        bucket_weights: int8, NUM_BUCKETS x workflows.
        bucket_scales: float32, one a workflow: what an int8 unit is worth.
        words: that are known; the first is none and stands for all others.
        word_weights: int8, words x (workflows, and again for where there are documents).
        word_scales: float32, one a column: what an int8 unit is worth.
        signal_weights: float32, signal keys x workflows.
    """

    def __init__(
        self,
        header: LearnedHeader,
        *,
        bucket_weights: NDArray[np.int8],
        bucket_scales: NDArray[np.float32],
        words: tuple[str, ...],
        word_weights: NDArray[np.int8],
        word_scales: NDArray[np.float32],
        signal_weights: NDArray[np.float32],
    ) -> None:
        self.header = header
        self._bucket_weights = bucket_weights
        self._bucket_scales = bucket_scales
        self._word_weights = word_weights
        self._word_scales = word_scales
        self._place_by_word = {word: place for place, word in enumerate(words)}
        self._signal_weights = signal_weights
        self._place_by_key = {key: place for place, key in enumerate(header.signal_keys)}

    def shares(self, query: Query, context: RouteContext, evidence: Evidence) -> tuple[float, ...]:
        """Return the belief in each workflow, in the order of WORKFLOWS; they sum to 1."""
        buckets = hash_features(query, context, evidence)
        places = np.fromiter(buckets, dtype=np.int64, count=len(buckets))
        values = np.fromiter(buckets.values(), dtype=np.float32, count=len(buckets))
        scores = (values @ self._bucket_weights[places]) * self._bucket_scales
        scores = scores + self._score_words(query, context)
        for key, value in evidence.values.items():
            place = self._place_by_key.get(key)
            # A circumstance that no labelled query had, such as a very long text, has no weight.
            if place is not None:
                scores = scores + SIGNAL_SCALE * value * self._signal_weights[place]
        return to_shares((scores / self.header.temperature).tolist())

    def _score_words(self, query: Query, context: RouteContext) -> NDArray[np.float32]:
        """Return what the words say of each workflow, whatever their order."""
        words = find_latin_words(query)
        if not words:
            return np.zeros(len(WORKFLOWS), dtype=np.float32)
        places = [self._place_by_word.get(word, _NO_WORD) for word in words]
        sums = self._word_weights[places].sum(axis=0, dtype=np.float32) * self._word_scales
        always, with_documents = np.split(sums / np.float32(math.sqrt(len(words))), 2)
        scores: NDArray[np.float32] = always + context.has_documents * with_documents
        return scores


def load_learned(path: Path = LEARNED_PATH) -> LearnedModel:
    """Return the model of a file; nothing in the file is run.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or was made for other features, tables or workflows.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            header = msgspec.json.decode(arrays["header"].tobytes(), type=LearnedHeader)
            words = tuple(arrays["words"].tobytes().decode("ascii").split("\n"))
            parts = {name: arrays[name] for name in _DTYPES}
    except (BadZipFile, KeyError, EOFError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error
    _check(path.name, header, words, parts)
    return LearnedModel(header, words=words, **parts)


def save_learned(
    path: Path,
    header: LearnedHeader,
    *,
    bucket_weights: NDArray[np.float32],
    words: tuple[str, ...],
    word_weights: NDArray[np.float32],
    signal_weights: NDArray[np.float32],
) -> None:
    """Write a model, its bucket and word weights rounded to 8 bits."""
    rounded_buckets, bucket_scales = _round(bucket_weights)
    rounded_words, word_scales = _round(word_weights)
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            header=np.frombuffer(msgspec.json.encode(header), dtype=np.uint8),
            words=np.frombuffer("\n".join(words).encode("ascii"), dtype=np.uint8),
            bucket_weights=rounded_buckets,
            bucket_scales=bucket_scales,
            word_weights=rounded_words,
            word_scales=word_scales,
            signal_weights=signal_weights,
        )


def _round(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return weights in 8 bits, and what a unit of each column is worth."""
    scales = np.abs(weights).max(axis=0) / 127
    return np.round(weights / scales).astype(np.int8), scales.astype(np.float32)


_DTYPES: dict[str, Any] = {
    "bucket_weights": np.int8,
    "bucket_scales": np.float32,
    "word_weights": np.int8,
    "word_scales": np.float32,
    "signal_weights": np.float32,
}


def _check(name: str, header: LearnedHeader, words: tuple[str, ...], parts: dict[str, Any]) -> None:
    expected = {
        "format": _FORMAT,
        "features_version": FEATURES_VERSION,
        "num_buckets": NUM_BUCKETS,
        "tables_digest": digest_tables(),
        "workflows": WORKFLOWS,
    }
    for field, value in expected.items():
        if getattr(header, field) != value:
            raise ValueError(f"{name} has another {field} than this program; train it again.")
    shapes = {
        "bucket_weights": (NUM_BUCKETS, len(WORKFLOWS)),
        "bucket_scales": (len(WORKFLOWS),),
        "word_weights": (len(words), 2 * len(WORKFLOWS)),
        "word_scales": (2 * len(WORKFLOWS),),
        "signal_weights": (len(header.signal_keys), len(WORKFLOWS)),
    }
    for part, shape in shapes.items():
        array = parts[part]
        if array.shape != shape or array.dtype != _DTYPES[part]:
            raise ValueError(f"{name}: {part} is {array.dtype}{array.shape}, not of {shape}.")
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: {part} holds values that are no numbers.")
    if not (header.temperature > 0 and 0 <= header.min_confidence <= 1):
        raise ValueError(f"{name}: temperature or min_confidence is out of its range.")


def make_header(
    *, queries_digest: str, signal_keys: tuple[str, ...], temperature: float, min_confidence: float
) -> LearnedHeader:
    """Return the header of weights that this program's features were used for."""
    return LearnedHeader(
        format=_FORMAT,
        features_version=FEATURES_VERSION,
        num_buckets=NUM_BUCKETS,
        tables_digest=digest_tables(),
        queries_digest=queries_digest,
        workflows=WORKFLOWS,
        signal_keys=signal_keys,
        temperature=temperature,
        min_confidence=min_confidence,
    )

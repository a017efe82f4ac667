"""Makes word_vectors.npz: what words mean, by an embedding model, so that like words weigh alike.

usage: python -m benchmarks.routing.embed_words MODEL_DIRECTORY

MODEL_DIRECTORY holds all-MiniLM-L6-v2 (Apache-2.0), as `muai --pull` leaves it. Each word of two
and more letters of its vocabulary is embedded by itself, as in Model2Vec (Tulkens and van Dongen
2024); the principal components are kept, in 8 bits.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from benchmarks.routing.word_vectors import VECTORS_PATH

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NUM_COMPONENTS = 128
_NUM_TOGETHER = 512
_WORD = re.compile(r"[a-z]{2,}")


def main() -> int:
    """Embed, reduce, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL_DIRECTORY")
    vectors_by_word = _embed(parser.parse_args().model)
    words, vectors = list(vectors_by_word), np.stack(list(vectors_by_word.values()))
    components = _keep_components(vectors)
    components /= np.linalg.norm(components, axis=1).mean()
    unit = np.abs(components).max() / 127
    np.savez_compressed(
        VECTORS_PATH,
        words=np.frombuffer("\n".join(words).encode("ascii"), dtype=np.uint8),
        vectors=np.round(components / unit).astype(np.int8),
        unit=np.float32(unit),
    )
    print(f"written: {VECTORS_PATH.name}, {len(words)} words")
    return 0


def _embed(directory: Path) -> dict[str, NDArray[np.float32]]:
    """Return the vector of each word, of length 1."""
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    model = AutoModel.from_pretrained(directory, local_files_only=True).eval()
    id_by_word = {word: id_ for word, id_ in tokenizer.get_vocab().items() if _WORD.fullmatch(word)}
    words = sorted(id_by_word)
    vectors: list[NDArray[np.float32]] = []
    for begin in range(0, len(words), _NUM_TOGETHER):
        ids = [
            [tokenizer.cls_token_id, id_by_word[word], tokenizer.sep_token_id]
            for word in words[begin : begin + _NUM_TOGETHER]
        ]
        with torch.inference_mode():
            hidden = model(input_ids=torch.tensor(ids)).last_hidden_state
        means = torch.nn.functional.normalize(hidden.mean(dim=1), dim=1)
        vectors.extend(means.numpy())
    return dict(zip(words, vectors, strict=True))


def _keep_components(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return words x components, those along which words differ most."""
    centred = (vectors - vectors.mean(axis=0)).astype(np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    kept: NDArray[np.float64] = centred @ axes[:, ::-1][:, :_NUM_COMPONENTS]
    return kept


if __name__ == "__main__":
    sys.exit(main())

"""What the router believed of the development queries: what is learned later must not undo it."""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import msgspec
import numpy as np

from mm_orch.routing.route import WORKFLOWS
from mm_orch.routing.tables import digest_tables

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHANCE = 0.05
DEVELOPMENT_PATH = Path(__file__).with_name("development_beliefs.npz")


class DevelopmentHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the beliefs are of.

    Attributes:
        queries_digest: of the labelled queries, as the learned weights have it.
        tables_digest: of the tables of signals, likewise; with others there are other beliefs.
        workflows: the order of the columns.
    """

    queries_digest: str
    tables_digest: str
    workflows: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Development:
    """Labelled queries, and no word of them.

    Attributes:
        beliefs: float32, queries x workflows, by a router that has not learned from the query.
        labels: int64, the places of the right workflows.
        digest: of all of it.
    """

    beliefs: NDArray[np.float32]
    labels: NDArray[np.int64]
    digest: str

    def find_right(self, biases: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return for which queries the right workflow is the likeliest, so biased."""
        is_right: NDArray[np.bool_] = (self.beliefs * np.exp(biases)).argmax(axis=1) == self.labels
        return is_right

    def is_worse(self, biases: NDArray[np.float64]) -> bool:
        """Say whether biases are shown to do harm: by a sign test of the queries that they turn.

        One-sided, exact, at 5% (McNemar's test): four of four that are lost may be by chance.
        """
        before, after = self.find_right(np.zeros(len(WORKFLOWS))), self.find_right(biases)
        num_lost, num_gained = int((before & ~after).sum()), int((after & ~before).sum())
        num_turned = num_lost + num_gained
        num_ways = sum(math.comb(num_turned, lost) for lost in range(num_lost, num_turned + 1))
        return num_ways < _CHANCE * (1 << num_turned)


def load_development(path: Path = DEVELOPMENT_PATH) -> Development:
    """Return what a file holds; nothing in the file is run.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or of other workflows or tables.
    """
    content = path.read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            header = msgspec.json.decode(arrays["header"].tobytes(), type=DevelopmentHeader)
            beliefs, labels = arrays["beliefs"], arrays["labels"]
    except (BadZipFile, KeyError, EOFError, msgspec.DecodeError) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error
    expected = (WORKFLOWS, digest_tables())
    if (header.workflows, header.tables_digest) != expected:
        raise ValueError(f"{path.name} is of other workflows or tables than this program's.")
    if beliefs.shape != (len(labels), len(WORKFLOWS)):
        raise ValueError(f"{path.name} has not one belief for each query and workflow.")
    return Development(
        beliefs=beliefs.astype(np.float32),
        labels=labels.astype(np.int64),
        digest=hashlib.sha256(content).hexdigest()[:16],
    )


def save_development(
    header: DevelopmentHeader,
    beliefs: NDArray[np.float64],
    labels: NDArray[np.int64],
    path: Path = DEVELOPMENT_PATH,
) -> None:
    """Write the file, beliefs in 16 bits."""
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            header=np.frombuffer(msgspec.json.encode(header), dtype=np.uint8),
            beliefs=beliefs.astype(np.float16),
            labels=labels.astype(np.int8),
        )

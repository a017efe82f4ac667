"""The deterministic embedding engine: a vector that says which tokens the text has.

It needs no library and no weights, so tests of everything above the engine run on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mm_orch.optimization.engines.contract import Availability, EngineFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mm_orch.optimization.engines.contract import EngineSpec

DIMENSIONS = 32


class EchoEmbedder:
    """Counts a text's tokens by their id modulo the dimensions; brings that to length 1."""

    name: ClassVar[str] = "echo"

    def __init__(self) -> None:
        self._facts: EngineFacts | None = None

    @classmethod
    def probe(cls) -> Availability:
        """Echo runs everywhere."""
        return Availability(engine=cls.name, is_available=True)

    def start(self, spec: EngineSpec) -> EngineFacts:
        """Take the model's context length; nothing is loaded."""
        if self._facts is None:
            self._facts = EngineFacts(
                engine=self.name,
                dtype="none",
                device="cpu",
                context_length=spec.context_length,
                dimensions=DIMENSIONS,
            )
        return self._facts

    def embed(self, batch: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Count each text's tokens."""
        counts = np.zeros((len(batch), DIMENSIONS), dtype=np.float32)
        for row, text in enumerate(batch):
            np.add.at(counts[row], np.asarray(text) % DIMENSIONS, 1)
        normalized: NDArray[np.float32] = counts / np.linalg.norm(counts, axis=1, keepdims=True)
        return normalized

    def stop(self) -> None:
        """Forget everything."""
        self._facts = None

"""Owns the texts of one model that wait to be embedded and turns them into batches.

Jobs take turns, so that a request of thousands of texts does not stop the others; a batch holds
texts of similar length, so that little is computed for filling.

    jobs in turn    A: 500 480 7     B: 12     C: 9 450
    batch           A: 500 480                 C: 450      all at least half as long as the first
    next            B: 12            C: 9      A: 7
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mm_orch.batching.report import engine_failure
from mm_orch.core.errors import EngineError, EngineFailedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from mm_orch.batching.batcher import BatcherSpec
    from mm_orch.core.clock import Clock
    from mm_orch.optimization.engines.embedding import EmbeddingBackend

# To compute a text so short takes about as long whatever it is filled up to.
_SHORT_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Text:
    """One text to embed."""

    text_id: str
    token_ids: Sequence[int]

    @property
    def num_tokens(self) -> int:
        """Its length."""
        return len(self.token_ids)


@dataclass(slots=True)
class Job:
    """The texts of one request that still wait, the longest last."""

    texts: list[Text]
    arrival_s: float
    has_started: bool = False

    def __post_init__(self) -> None:
        self.texts.sort(key=lambda text: text.num_tokens)

    def take(self, text_ids: set[str]) -> list[Text]:
        """Remove and return those of its texts that are among these."""
        taken = [text for text in self.texts if text.text_id in text_ids]
        self.texts = [text for text in self.texts if text.text_id not in text_ids]
        return taken


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingReport:
    """What one batch did.

    Attributes:
        vectors: text id and vector, [dimensions].
        started: one text of each job that is in a batch for the first time, and the seconds that
            it had waited.
        failed: text ids with the error.
        batch_size: texts in the batch.
        duration_s: time that the backend took.
    """

    vectors: list[tuple[str, NDArray[np.float32]]] = field(default_factory=list)
    started: list[tuple[str, float]] = field(default_factory=list)
    failed: list[tuple[str, EngineError]] = field(default_factory=list)
    batch_size: int = 0
    duration_s: float = 0.0


class EmbeddingBatcher:
    """Batches over an embedding backend: newcomers join at the next batch."""

    def __init__(self, backend: EmbeddingBackend, spec: BatcherSpec, clock: Clock) -> None:
        self._backend = backend
        self._spec = spec
        self._clock = clock
        # The next one's turn is first.
        self._jobs: deque[Job] = deque()

    def configure(self, spec: BatcherSpec) -> None:
        """Share the batches that follow like this."""
        self._spec = spec

    @property
    def num_waiting(self) -> int:
        """Texts that wait."""
        return sum(len(job.texts) for job in self._jobs)

    @property
    def wait_s(self) -> float | None:
        """Seconds until the next batch should run unless more arrives; None without work."""
        if not self._jobs:
            return None
        is_idle = not any(job.has_started for job in self._jobs)
        if not is_idle or self.num_waiting >= self._spec.min_batch_size:
            return 0.0
        oldest_s = min(job.arrival_s for job in self._jobs)
        return max(0.0, oldest_s + self._spec.batch_timeout_s - self._clock())

    def add(self, texts: Iterable[Text]) -> None:
        """Queue the texts of one request."""
        if waiting := list(texts):
            self._jobs.append(Job(waiting, self._clock()))

    def abort(self, text_ids: Iterable[str]) -> None:
        """Drop these texts; ids that are done or unknown are ignored."""
        dropped = set(text_ids)
        for job in self._jobs:
            job.take(dropped)
        self._drop_empty()

    def step(self) -> EmbeddingReport:
        """Embed one batch; with no work, the report is of a batch of size 0."""
        batch = choose_batch(
            self._jobs,
            max_batch_size=self._spec.max_batch_size,
            max_batch_tokens=self._spec.max_batch_tokens,
        )
        begin_s = self._clock()
        started = self._remove(batch, begin_s)
        self._jobs.rotate(-1)
        self._drop_empty()
        vectors, failed = self._compute(batch)
        return EmbeddingReport(
            vectors=vectors,
            started=started,
            failed=failed,
            batch_size=len(batch),
            duration_s=self._clock() - begin_s,
        )

    def _remove(self, batch: list[Text], now_s: float) -> list[tuple[str, float]]:
        """Take the texts out of their jobs; return what the report says of those that start."""
        chosen = {text.text_id for text in batch}
        started = []
        for job in self._jobs:
            taken = job.take(chosen)
            if taken and not job.has_started:
                job.has_started = True
                started.append((taken[0].text_id, now_s - job.arrival_s))
        return started

    def _drop_empty(self) -> None:
        self._jobs = deque(job for job in self._jobs if job.texts)

    def _compute(
        self, batch: list[Text]
    ) -> tuple[list[tuple[str, NDArray[np.float32]]], list[tuple[str, EngineError]]]:
        if not batch:
            return [], []
        try:
            vectors = self._backend.embed([text.token_ids for text in batch])
        except EngineError as error:
            return self._retry(batch, error)
        except Exception as error:  # noqa: BLE001 - boundary: libraries may raise anything
            return self._retry(batch, engine_failure(error))
        embedded: list[tuple[str, NDArray[np.float32]]] = []
        failed: list[tuple[str, EngineError]] = []
        for text, vector in zip(batch, vectors, strict=True):
            if np.isfinite(vector).all():
                embedded.append((text.text_id, vector))
            else:
                reason = f"The vector of a text of {text.num_tokens} tokens holds no numbers."
                failed.append((text.text_id, EngineFailedError(reason)))
        return embedded, failed

    def _retry(
        self, batch: list[Text], error: EngineError
    ) -> tuple[list[tuple[str, NDArray[np.float32]]], list[tuple[str, EngineError]]]:
        """Embed each text alone, so that only those that fail by themselves are lost."""
        if len(batch) == 1:
            return [], [(batch[0].text_id, error)]
        outcomes = [self._compute([text]) for text in batch]
        return (
            [vector for vectors, _ in outcomes for vector in vectors],
            [failure for _, failures in outcomes for failure in failures],
        )


def choose_batch(jobs: Iterable[Job], *, max_batch_size: int, max_batch_tokens: int) -> list[Text]:
    """Choose the texts of the next batch; the jobs stay as they are.

    The first job's longest text sets the width that all are filled up to. The others, of all jobs
    in turn, are those that waste no more than half of it.

    Args:
        jobs: in order of turn, each with texts.
        max_batch_size: most texts.
        max_batch_tokens: most tokens, filling included; one text always fits.
    """
    waiting = [list(job.texts) for job in jobs]
    if not waiting:
        return []
    width = waiting[0][-1].num_tokens
    shortest = width // 2 if width > _SHORT_TOKENS else 0
    for texts in waiting:
        texts[:] = [text for text in texts if shortest <= text.num_tokens <= width]
    num_places = max(1, min(max_batch_size, max_batch_tokens // width))
    batch: list[Text] = []
    while len(batch) < num_places and (waiting := [texts for texts in waiting if texts]):
        batch += [texts.pop() for texts in waiting[: num_places - len(batch)]]
    return batch

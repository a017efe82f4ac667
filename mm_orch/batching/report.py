"""What a step of a batcher has done, and how it failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.core.errors import EngineFailedError, clause

if TYPE_CHECKING:
    from mm_orch.core.errors import MuAIError
    from mm_orch.core.generation import SequenceStarted, TokenChunk


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What one step did.

    Attributes:
        chunks: new tokens, with the finish reason on a sequence's last.
        started: sequences in their first step.
        failed: sequences that the step lost, with the error; empty when the step succeeded.
        phase: prefill, decode or mixed.
        batch_size: sequences in the step.
        num_preempted: sequences that gave up their memory for others and wait again.
        duration_s: time that the backend took.
    """

    chunks: list[TokenChunk]
    started: list[SequenceStarted]
    failed: list[tuple[str, MuAIError]]
    phase: str
    batch_size: int
    num_preempted: int
    duration_s: float


def engine_failure(error: Exception) -> EngineFailedError:
    """Say that the engine failed of an exception that may be any library's, which is its cause."""
    words = f"{type(error).__name__}: {clause(error)}".rstrip(": ")
    failure = EngineFailedError(f"The engine failed: {words}.")
    failure.__cause__ = error
    return failure

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.batching.batcher import DynamicBatcher
from mm_orch.batching.scheduler import BatchLimits
from mm_orch.core.errors import EngineFailedError, EngineOutOfMemoryError
from mm_orch.core.generation import FinishReason, SamplingParams, TokenChunk
from mm_orch.optimization.engines.contract import EngineSpec, ScheduledSequence, Sequence
from mm_orch.optimization.engines.echo import EchoBackend

if TYPE_CHECKING:
    from collections.abc import Sequence as Batch

SPEC = EngineSpec(model="m", directory="", context_length=100, eos_token_ids=(0,))
LIMITS = BatchLimits(max_batch_size=4, max_batch_tokens=100)


class FailingEcho(EchoBackend):
    """An echo that fails as often as told, and holds state as a real engine does."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    def step(self, batch: Batch[ScheduledSequence]) -> list[TokenChunk]:
        chunks = super().step(batch)
        if self.errors:
            raise self.errors.pop(0)
        return chunks


def make_batcher(backend: EchoBackend) -> DynamicBatcher:
    backend.start(SPEC)
    return DynamicBatcher(backend, LIMITS, lambda: 0.0)


def make(name: str, max_tokens: int = 9, **params: object) -> Sequence:
    values = SamplingParams(max_tokens=max_tokens, stop_token_ids=(0,), **params)  # type: ignore[arg-type]  # by name
    return Sequence(sequence_id=name, token_ids=[5, 6], params=values)


def test_a_step_that_fails_loses_its_sequences_and_frees_them() -> None:
    backend = FailingEcho(EngineOutOfMemoryError("no memory left"))
    batcher = make_batcher(backend)
    batcher.add(make("a"))
    batcher.add(make("b"))

    report = batcher.step()

    assert [sequence_id for sequence_id, _ in report.failed] == ["a", "b"]
    assert all(isinstance(error, EngineOutOfMemoryError) for _, error in report.failed)
    assert not batcher.has_work
    assert backend.stats().num_sequences == 0


def test_a_foreign_exception_becomes_an_engine_error_that_names_it() -> None:
    batcher = make_batcher(FailingEcho(ZeroDivisionError("in a kernel")))
    batcher.add(make("a"))

    [(_, error)] = batcher.step().failed

    assert isinstance(error, EngineFailedError)
    assert "ZeroDivisionError: in a kernel" in error.message
    assert isinstance(error.__cause__, ZeroDivisionError)


def test_after_a_failed_step_the_next_sequence_is_served() -> None:
    batcher = make_batcher(FailingEcho(EngineFailedError("once")))
    batcher.add(make("a"))
    batcher.step()
    batcher.add(make("b", max_tokens=1))

    [chunk] = batcher.step().chunks

    assert chunk.token_ids == (5,)
    assert chunk.finish_reason is FinishReason.LENGTH


def test_the_stop_token_itself_is_not_delivered() -> None:
    batcher = make_batcher(EchoBackend())
    batcher.add(make("a"))

    reports = [batcher.step() for _ in range(3)]

    assert [chunk.token_ids for report in reports for chunk in report.chunks] == [(5,), (6,), ()]
    assert reports[-1].chunks[0].finish_reason is FinishReason.STOP


def test_ignoring_the_end_generates_to_the_limit() -> None:
    batcher = make_batcher(EchoBackend())
    batcher.add(make("a", max_tokens=5, ignore_eos=True))

    chunks = [chunk for _ in range(5) for chunk in batcher.step().chunks]

    assert [chunk.token_ids[0] for chunk in chunks] == [5, 6, 5, 6, 5]
    assert chunks[-1].finish_reason is FinishReason.LENGTH


def test_a_report_names_the_phase() -> None:
    batcher = make_batcher(EchoBackend())
    batcher.add(make("a"))
    phases = [batcher.step().phase, batcher.step().phase]
    batcher.add(make("b"))

    assert [*phases, batcher.step().phase] == ["prefill", "decode", "mixed"]


def test_a_step_without_work_is_empty() -> None:
    report = make_batcher(EchoBackend()).step()

    assert (report.batch_size, report.chunks, report.failed) == (0, [], [])

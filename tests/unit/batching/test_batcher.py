from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from mm_orch.batching.batcher import BatcherSpec, DynamicBatcher
from mm_orch.core.errors import EngineFailedError, EngineOutOfMemoryError
from mm_orch.core.generation import FinishReason, SamplingParams, TokenChunk
from mm_orch.kv_cache.cache import KVCache
from mm_orch.optimization.engines.contract import EngineSpec, ScheduledSequence, Sequence
from mm_orch.optimization.engines.echo import EchoBackend

if TYPE_CHECKING:
    from collections.abc import Sequence as Batch

SPEC = EngineSpec(
    model="m", directory="", cache_directory="", context_length=100, eos_token_ids=(0,)
)
BATCHER = BatcherSpec(max_batch_size=4, max_batch_tokens=100)


class Clock:
    """Stands still until told to move."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class FailingEcho(EchoBackend):
    """An echo that fails as often as told."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    def step(self, batch: Batch[ScheduledSequence]) -> list[TokenChunk]:
        chunks = super().step(batch)
        if self.errors:
            raise self.errors.pop(0)
        return chunks


class PoisonedEcho(EchoBackend):
    """An echo that fails every step in which the sequence ``bad`` takes part."""

    def step(self, batch: Batch[ScheduledSequence]) -> list[TokenChunk]:
        if any(scheduled.sequence.sequence_id == "bad" for scheduled in batch):
            raise EngineFailedError("bad is bad")
        return super().step(batch)


def make_batcher(
    backend: EchoBackend,
    *,
    clock: Clock | None = None,
    num_blocks: int | None = None,
    **limits: object,
) -> DynamicBatcher:
    facts = backend.start(SPEC)
    cache = KVCache(num_blocks or facts.num_kv_blocks, facts.kv_block_tokens)
    spec = msgspec.structs.replace(BATCHER, **limits)
    return DynamicBatcher(backend, cache, spec, clock or Clock())


def make(
    name: str, max_tokens: int = 9, *, prompt: tuple[int, ...] = (5, 6), **params: object
) -> Sequence:
    values = SamplingParams(max_tokens=max_tokens, stop_token_ids=(0,), **params)  # type: ignore[arg-type]  # by name
    return Sequence(sequence_id=name, token_ids=list(prompt), params=values)


def test_a_sequence_that_fails_alone_too_is_lost() -> None:
    batcher = make_batcher(FailingEcho(EngineOutOfMemoryError("no memory left")))
    batcher.add(make("a"))

    [(sequence_id, error)] = batcher.step().failed

    assert sequence_id == "a"
    assert isinstance(error, EngineOutOfMemoryError)
    assert not batcher.has_work


def test_a_step_that_fails_is_tried_again_one_by_one() -> None:
    batcher = make_batcher(FailingEcho(EngineOutOfMemoryError("too much at once")))
    for name in "ab":
        batcher.add(make(name))

    report = batcher.step()

    assert report.failed == []
    assert [chunk.token_ids for chunk in report.chunks] == [(5,), (5,)]


def test_one_bad_sequence_does_not_take_its_neighbours_with_it() -> None:
    batcher = make_batcher(PoisonedEcho())
    for name in ("a", "bad", "b"):
        batcher.add(make(name))

    report = batcher.step()

    assert [sequence_id for sequence_id, _ in report.failed] == ["bad"]
    assert [chunk.sequence_id for chunk in report.chunks] == ["a", "b"]
    assert batcher.num_running == 2


def test_a_higher_priority_is_served_first() -> None:
    batcher = make_batcher(EchoBackend(), max_batch_size=1)
    for name, priority in (("first", 0), ("urgent", 5), ("second", 0)):
        sequence = make(name, max_tokens=1)
        sequence.priority = priority
        batcher.add(sequence)

    order = [batcher.step().chunks[0].sequence_id for _ in range(3)]

    assert order == ["urgent", "first", "second"]


def test_an_idle_batcher_waits_for_a_fuller_batch_but_not_for_ever() -> None:
    clock = Clock()
    batcher = make_batcher(EchoBackend(), clock=clock, min_batch_size=2, batch_timeout_s=0.05)
    assert batcher.wait_s is None

    batcher.add(make("a"))
    assert batcher.wait_s == 0.05
    clock.now_s = 0.03
    assert round(batcher.wait_s, 9) == 0.02
    clock.now_s = 0.06
    assert batcher.wait_s == 0


def test_enough_sequences_end_the_wait_and_a_running_engine_never_waits() -> None:
    batcher = make_batcher(EchoBackend(), min_batch_size=2, batch_timeout_s=10.0)
    batcher.add(make("a"))
    batcher.add(make("b", max_tokens=1))
    assert batcher.wait_s == 0

    batcher.step()

    assert batcher.num_running == 1
    assert batcher.wait_s == 0


def test_a_sequence_that_was_preempted_goes_on_where_it_was() -> None:
    # Six blocks: each sequence ends up with five.
    batcher = make_batcher(EchoBackend(), num_blocks=7)
    prompts = {name: tuple(range(first, first + 40)) for name, first in (("a", 1), ("b", 100))}
    for name, prompt in prompts.items():
        batcher.add(make(name, max_tokens=40, prompt=prompt, ignore_eos=True))
    texts: dict[str, list[int]] = {name: [] for name in prompts}

    num_preempted, started = 0, []
    while batcher.has_work:
        report = batcher.step()
        num_preempted += report.num_preempted
        started += [one.sequence_id for one in report.started]
        for chunk in report.chunks:
            texts[chunk.sequence_id] += chunk.token_ids

    assert num_preempted > 0
    assert {name: tuple(text) for name, text in texts.items()} == prompts
    assert started == ["a", "b"]


def test_the_second_turn_says_what_was_reused() -> None:
    batcher = make_batcher(EchoBackend())
    prompt = tuple(range(1, 41))
    reused = []
    for name in "ab":
        batcher.add(make(name, max_tokens=1, prompt=prompt))
        reused += [started.num_cached_tokens for started in batcher.step().started]

    assert reused == [0, 32]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("in a kernel", "ZeroDivisionError: in a kernel."),
        ("In a kernel.", "ZeroDivisionError: In a kernel."),
        ("", "ZeroDivisionError."),
    ],
)
def test_a_foreign_exception_becomes_an_engine_error_that_names_it(words: str, told: str) -> None:
    batcher = make_batcher(FailingEcho(ZeroDivisionError(words)))
    batcher.add(make("a"))

    [(_, error)] = batcher.step().failed

    assert isinstance(error, EngineFailedError)
    assert error.message == f"The engine failed: {told}"
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


def test_a_sequence_that_outgrows_all_memory_ends_instead_of_going_round_for_ever() -> None:
    batcher = make_batcher(EchoBackend(), num_blocks=2)
    batcher.add(make("a", max_tokens=1000, ignore_eos=True))

    chunks = [chunk for _ in range(30) for chunk in batcher.step().chunks]

    assert len(chunks) == 30
    assert chunks[-1].finish_reason is FinishReason.LENGTH
    assert not batcher.has_work


def test_a_conversation_released_while_its_turn_waits_leaves_nothing_when_it_ends() -> None:
    backend = EchoBackend()
    facts = backend.start(SPEC)
    cache = KVCache(facts.num_kv_blocks, facts.kv_block_tokens)
    batcher = DynamicBatcher(backend, cache, BATCHER, lambda: 0.0)
    for name in ("kept", "released"):
        sequence = make(name, max_tokens=2, prompt=(len(name), *range(10, 49)))
        sequence.conversation_id = name
        batcher.add(sequence)

    batcher.release_conversation("released")
    while batcher.has_work:
        batcher.step()

    # Two whole blocks of the one, nothing of the other.
    assert cache.stats.num_cached == 2
    cache.check()

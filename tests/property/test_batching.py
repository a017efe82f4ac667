"""The batcher over the real echo engine, with arbitrary arrivals, aborts and limits."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mm_orch.batching.batcher import DynamicBatcher
from mm_orch.batching.scheduler import BatchLimits, schedule
from mm_orch.core.generation import FinishReason, SamplingParams
from mm_orch.optimization.engines.contract import EngineSpec, Sequence
from mm_orch.optimization.engines.echo import EchoBackend

EOS = 0
SPEC = EngineSpec(model="m", directory="", context_length=1000, eos_token_ids=(EOS,))
LIMITS = st.builds(
    BatchLimits, max_batch_size=st.integers(1, 6), max_batch_tokens=st.integers(1, 20)
)
REQUESTS = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 20)), min_size=1, max_size=12)


def make_batcher(limits: BatchLimits) -> tuple[DynamicBatcher, EchoBackend]:
    backend = EchoBackend()
    backend.start(SPEC)
    ticks = itertools.count()
    return DynamicBatcher(backend, limits, lambda: float(next(ticks))), backend


def make(number: int, num_prompt: int, max_tokens: int) -> Sequence:
    return Sequence(
        sequence_id=str(number),
        token_ids=list(range(1, num_prompt + 1)),
        params=SamplingParams(max_tokens=max_tokens, stop_token_ids=(EOS,)),
    )


@given(REQUESTS, LIMITS)
def test_every_sequence_ends_with_its_own_text(
    requests: list[tuple[int, int]], limits: BatchLimits
) -> None:
    batcher, backend = make_batcher(limits)
    outputs: dict[str, list[int]] = {}
    reasons: dict[str, FinishReason] = {}
    for number, (num_prompt, max_tokens) in enumerate(requests):
        batcher.add(make(number, num_prompt, max_tokens))

    while batcher.has_work:
        report = batcher.step()
        assert 1 <= report.batch_size <= limits.max_batch_size
        for chunk in report.chunks:
            assert chunk.sequence_id not in reasons
            outputs.setdefault(chunk.sequence_id, []).extend(chunk.token_ids)
            if chunk.finish_reason is not None:
                reasons[chunk.sequence_id] = chunk.finish_reason

    for number, (num_prompt, max_tokens) in enumerate(requests):
        said_all = num_prompt < max_tokens
        expected = list(range(1, num_prompt + 1))[:max_tokens]
        assert outputs[str(number)] == expected
        assert reasons[str(number)] is (FinishReason.STOP if said_all else FinishReason.LENGTH)
    assert backend.stats().num_sequences == 0


@given(REQUESTS, LIMITS, st.lists(st.integers(0, 11), max_size=8))
def test_aborts_leave_nothing_behind(
    requests: list[tuple[int, int]], limits: BatchLimits, aborts: list[int]
) -> None:
    batcher, backend = make_batcher(limits)
    for number, (num_prompt, max_tokens) in enumerate(requests):
        batcher.add(make(number, num_prompt, max_tokens))
    ended: set[str] = set()

    for number in aborts:
        if batcher.has_work:
            report = batcher.step()
            ended |= {c.sequence_id for c in report.chunks if c.finish_reason is not None}
        batcher.abort([str(number), "never seen"])
        assert backend.stats().num_sequences == batcher.num_running
    batcher.abort([str(number) for number in range(len(requests))])

    assert not batcher.has_work
    assert backend.stats().num_sequences == 0


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30), st.integers(0, 3)), max_size=10),
    st.lists(st.integers(1, 30), max_size=10),
    LIMITS,
)
def test_a_step_keeps_its_bounds_and_the_order_of_arrival(
    running: list[tuple[int, int, int]], waiting: list[int], limits: BatchLimits
) -> None:
    started = []
    for number, (num_prompt, num_computed, num_output) in enumerate(running):
        sequence = make(number, num_prompt, 99)
        if num_output:
            sequence.token_ids.extend([1] * num_output)
            sequence.num_computed_tokens = len(sequence.token_ids) - 1
        else:
            sequence.num_computed_tokens = min(num_computed, num_prompt - 1)
        started.append(sequence)
    newcomers = [make(100 + number, num_prompt, 99) for number, num_prompt in enumerate(waiting)]

    batch = schedule(started, newcomers, limits)

    prompt_tokens = sum(s.num_new_tokens for s in batch if not s.sequence.num_output_tokens)
    assert prompt_tokens <= limits.max_batch_tokens
    assert len(batch) <= limits.max_batch_size
    assert all(1 <= s.num_new_tokens <= s.sequence.num_uncomputed_tokens for s in batch)
    chosen = [s.sequence for s in batch if s.sequence in newcomers]
    assert chosen == newcomers[: len(chosen)]
    assert batch or not (started or newcomers)

"""What every step backend promises, checked on each of them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec
import pytest

from mm_orch.core.errors import EngineStartError
from mm_orch.core.generation import SamplingParams
from mm_orch.optimization.engines.contract import ResizableBackend, ScheduledSequence, Sequence
from mm_orch.optimization.registry import load_engine
from tests.contracts.conftest import STEP_BACKENDS
from tests.tiny_models import EOS_TOKEN_ID

if TYPE_CHECKING:
    from mm_orch.optimization.engines.contract import EngineSpec, StepBackend

GREEDY = SamplingParams(max_tokens=64, temperature=0.0, ignore_eos=True)
PROMPT = list(range(10, 40))


def advance(backend: StepBackend, batch: list[ScheduledSequence]) -> dict[str, int]:
    """Run one step as the batcher does; return the new token of each sequence that got one."""
    chunks = backend.step(batch)
    for scheduled in batch:
        scheduled.sequence.num_computed_tokens += scheduled.num_new_tokens
    tokens = {chunk.sequence_id: chunk.token_ids[0] for chunk in chunks}
    for scheduled in batch:
        sequence = scheduled.sequence
        if sequence.sequence_id in tokens:
            sequence.token_ids.append(tokens[sequence.sequence_id])
    return tokens


def generate(
    backend: StepBackend, sequences: list[Sequence], num_steps: int, chunk: int = 1000
) -> list[list[int]]:
    """Advance all sequences together and return each one's output."""
    while any(sequence.num_output_tokens < num_steps for sequence in sequences):
        batch = [
            ScheduledSequence(sequence, min(chunk, sequence.num_uncomputed_tokens))
            for sequence in sequences
            if sequence.num_output_tokens < num_steps
        ]
        advance(backend, batch)
    return [sequence.token_ids[sequence.num_prompt_tokens :] for sequence in sequences]


BLOCKS_EACH = 16
first_blocks = itertools.cycle(range(0, 8 * BLOCKS_EACH, BLOCKS_EACH))


def make(sequence_id: str, prompt: list[int], params: SamplingParams = GREEDY) -> Sequence:
    """Make a sequence with blocks of its own, which the eighth after it takes over."""
    first = next(first_blocks)
    return Sequence(
        sequence_id=sequence_id,
        token_ids=list(prompt),
        params=params,
        block_ids=list(range(first, first + BLOCKS_EACH)),
    )


def test_it_says_that_it_can_run_here(backend: StepBackend) -> None:
    availability = type(backend).probe()

    assert availability.is_available
    assert availability.engine == backend.name


def test_a_second_start_returns_the_same_facts(
    backend: StepBackend, engine_spec: EngineSpec
) -> None:
    assert backend.start(engine_spec) is backend.start(engine_spec)


def test_a_step_yields_a_token_only_where_the_prompt_is_complete(backend: StepBackend) -> None:
    whole, part = make("whole", PROMPT), make("part", PROMPT)

    tokens = advance(backend, [ScheduledSequence(whole, len(PROMPT)), ScheduledSequence(part, 5)])

    assert list(tokens) == ["whole"]


def test_a_prompt_taken_in_chunks_gives_the_same_tokens(backend: StepBackend) -> None:
    [at_once] = generate(backend, [make("a", PROMPT)], 8)
    [in_chunks] = generate(backend, [make("b", PROMPT)], 8, chunk=7)

    assert in_chunks == at_once


def test_memory_of_another_size_keeps_what_lies_in_it(
    backend: StepBackend, engine_spec: EngineSpec
) -> None:
    if not isinstance(backend, ResizableBackend):
        pytest.skip("its memory stays as large as it was at the start")
    num_blocks = backend.start(engine_spec).num_kv_blocks
    [expected] = generate(backend, [make("x", PROMPT)], 12)
    # The last blocks there are, so that a smaller memory has no place for them.
    sequence = Sequence(
        sequence_id="moved",
        token_ids=list(PROMPT),
        params=GREEDY,
        block_ids=[num_blocks - 3, num_blocks - 1, num_blocks - 2],
    )
    generate(backend, [sequence], 4)

    backend.move_kv(dict(zip(sequence.block_ids, (5, 0, 7), strict=True)))
    sequence.block_ids = [5, 0, 7]
    backend.resize_kv(32, num_kept=8)
    generate(backend, [sequence], 8)
    backend.resize_kv(num_blocks, num_kept=8)

    assert generate(backend, [sequence], 12) == [expected]
    assert backend.count_kv_blocks(engine_spec.max_kv_bytes) == num_blocks
    with pytest.raises(EngineStartError, match="max_memory_mb is 0"):
        backend.count_kv_blocks(1)


def test_neighbours_in_the_batch_change_nothing(backend: StepBackend) -> None:
    prompts = [PROMPT, PROMPT[:3], list(range(100, 180))]
    alone = [generate(backend, [make("x", prompt)], 12)[0] for prompt in prompts]

    together = generate(backend, [make(str(i), p) for i, p in enumerate(prompts)], 12)

    assert together == alone


def test_a_newcomer_joins_while_others_decode(backend: StepBackend) -> None:
    [expected_old], [expected_new] = (
        generate(backend, [make("x", PROMPT)], 6),
        generate(backend, [make("y", PROMPT[:4])], 3),
    )
    old, new = make("old", PROMPT), make("new", PROMPT[:4])
    advance(backend, [ScheduledSequence(old, len(PROMPT))])

    outputs = generate(backend, [old], 3)
    assert outputs == [expected_old[:3]]

    old = make("old2", PROMPT)
    advance(backend, [ScheduledSequence(old, len(PROMPT))])
    advance(backend, [ScheduledSequence(old, 1), ScheduledSequence(new, 4)])
    advance(backend, [ScheduledSequence(old, 1), ScheduledSequence(new, 1)])
    assert old.token_ids[-3:] == expected_old[:3]
    assert new.token_ids[-2:] == expected_new[:2]


def test_the_same_seed_gives_the_same_text_alone_and_among_others(backend: StepBackend) -> None:
    params = SamplingParams(max_tokens=64, temperature=1.0, top_p=0.9, seed=5, ignore_eos=True)
    other = SamplingParams(max_tokens=64, temperature=1.3, seed=6, ignore_eos=True)
    [alone] = generate(backend, [make("alone", PROMPT, params)], 16)

    among = generate(
        backend,
        [make("o1", PROMPT[:9], other), make("x", PROMPT, params), make("o2", PROMPT, other)],
        16,
    )

    assert among[1] == alone


def test_shared_blocks_give_the_same_text_as_computing_them_again(
    backend: StepBackend, engine_spec: EngineSpec
) -> None:
    block_tokens = backend.start(engine_spec).kv_block_tokens
    prompt = list(range(10, 10 + 3 * block_tokens + 5))
    first = make("first", prompt)
    [expected] = generate(backend, [first], 8)

    # The first two blocks are the first sequence's; the others lie in any order.
    second = make("second", prompt)
    own = second.block_ids[2:]
    second.block_ids = [*first.block_ids[:2], *reversed(own)]
    second.num_computed_tokens = 2 * block_tokens

    assert generate(backend, [second], 8) == [expected]


def test_it_has_blocks_for_the_memory_it_is_given(
    stopped_backend: StepBackend, engine_spec: EngineSpec
) -> None:
    facts = stopped_backend.start(msgspec.structs.replace(engine_spec, max_kv_bytes=2**20))

    assert facts.num_kv_blocks == 2**20 // facts.kv_block_bytes


def test_memory_for_less_than_one_full_sequence_is_refused(
    stopped_backend: StepBackend, engine_spec: EngineSpec
) -> None:
    spec = msgspec.structs.replace(engine_spec, max_kv_bytes=100)

    with pytest.raises(EngineStartError, match=r"max_memory_mb.*one sequence of 512 tokens"):
        stopped_backend.start(spec)


def test_without_a_bound_it_takes_memory_for_one_full_sequence(
    stopped_backend: StepBackend, engine_spec: EngineSpec
) -> None:
    spec = msgspec.structs.replace(engine_spec, max_kv_bytes=0)

    facts = stopped_backend.start(spec)

    assert facts.num_kv_blocks * facts.kv_block_tokens == spec.context_length


def test_log_probabilities_come_when_asked_for(backend: StepBackend) -> None:
    params = SamplingParams(max_tokens=4, temperature=0.0, num_logprobs=3)
    sequence = make("a", PROMPT, params)

    [chunk] = backend.step([ScheduledSequence(sequence, len(PROMPT))])

    assert chunk.logprobs is not None
    [logprob] = chunk.logprobs
    assert logprob.token_id == chunk.token_ids[0]
    assert logprob.logprob <= 0
    assert len(logprob.top) in {0, 3}


def test_no_stop_token_comes_before_min_tokens(backend: StepBackend) -> None:
    params = SamplingParams(
        max_tokens=200,
        min_tokens=60,
        temperature=0.0,
        stop_token_ids=(EOS_TOKEN_ID,),
        # As likely as a stop token can be made.
        logit_bias={EOS_TOKEN_ID: 100.0},
    )

    [output] = generate(backend, [make("a", PROMPT, params)], 60)

    assert EOS_TOKEN_ID not in output


def test_stop_is_safe_twice_and_before_a_start(backend: StepBackend) -> None:
    backend.stop()
    backend.stop()
    type(backend)().stop()


def test_it_starts_again_after_a_stop(backend: StepBackend, engine_spec: EngineSpec) -> None:
    [before] = generate(backend, [make("a", PROMPT)], 4)
    backend.stop()

    backend.start(engine_spec)

    assert generate(backend, [make("a", PROMPT)], 4) == [before]


def test_its_module_states_a_name_that_the_registry_knows(form: str) -> None:
    name, _ = STEP_BACKENDS[form]

    assert load_engine(name).name == name

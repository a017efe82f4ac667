"""What every stream engine promises, checked on each that can run in this interpreter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from mm_orch.core.errors import EngineStartError
from mm_orch.core.generation import FinishReason, GenerationOptions
from mm_orch.optimization.registry import load_engine
from tests.contracts.streaming import (
    CONTEXT_LENGTH,
    GREEDY,
    MAX_BATCH_SIZE,
    PROMPT,
    STREAM_ENGINES,
    ModelReference,
    Told,
    advance,
    greedy,
    make,
    random_prompt,
    run,
)
from tests.tiny_models import EOS_TOKEN_ID, VOCAB_SIZE

if TYPE_CHECKING:
    from mm_orch.optimization.engines.contract import EngineFacts, EngineSpec, StreamEngine


def test_it_says_that_it_can_run_here(engine: StreamEngine) -> None:
    availability = type(engine).probe()

    assert availability.is_available
    assert availability.engine == engine.name


def test_a_second_start_returns_the_same_facts(
    engine: StreamEngine, stream_spec: EngineSpec
) -> None:
    assert engine.start(stream_spec) is engine.start(stream_spec)


def test_its_facts_are_of_the_model_it_was_given(engine: StreamEngine, facts: EngineFacts) -> None:
    assert facts.engine == engine.name
    assert facts.context_length == CONTEXT_LENGTH
    assert facts.dtype == "fp32"
    assert set(facts.unsupported) <= set(GenerationOptions.__struct_fields__)


@pytest.mark.parametrize("num_prompt_tokens", [1, 30, 200])
def test_greedy_tokens_are_those_of_the_model(
    engine: StreamEngine, reference: ModelReference, num_prompt_tokens: int
) -> None:
    sequence = make("a", random_prompt(1, num_prompt_tokens), GREEDY)
    expected, _ = reference.generate(sequence)

    told = run(engine, [sequence])

    assert told.tokens == {"a": expected}
    assert told.reasons == {"a": FinishReason.LENGTH}


def test_tokens_come_as_they_are_made(engine: StreamEngine) -> None:
    engine.submit(make("a", PROMPT, GREEDY))
    told, num_reports = Told(), 0
    while engine.has_work:
        num_reports += bool(advance(engine, told).chunks)

    assert len(told.tokens["a"]) == GREEDY.max_tokens
    assert num_reports >= GREEDY.max_tokens / 2


def test_neighbours_in_the_batch_change_nothing(
    engine: StreamEngine, reference: ModelReference
) -> None:
    sequences = [
        make(str(seed), random_prompt(seed, 5 + 30 * seed), GREEDY)
        for seed in range(MAX_BATCH_SIZE)
    ]
    expected = {one.sequence_id: reference.generate(one)[0] for one in sequences}

    assert run(engine, sequences).tokens == expected


def test_more_sequences_than_places_wait_and_are_all_answered(engine: StreamEngine) -> None:
    names = [str(number) for number in range(3 * MAX_BATCH_SIZE)]
    engine_told = Told()
    for name in names:
        engine.submit(make(name, random_prompt(int(name), 20), GREEDY))
    num_together = 0
    while engine.has_work:
        report = advance(engine, engine_told)
        num_together = max(num_together, report.num_running)

    assert {name: len(engine_told.tokens[name]) for name in names} == dict.fromkeys(names, 16)
    assert 1 < num_together <= MAX_BATCH_SIZE


def test_a_newcomer_joins_while_others_run(engine: StreamEngine) -> None:
    told = run(
        engine, [make("old", PROMPT, greedy(max_tokens=100))], until=lambda told: bool(told.tokens)
    )

    run(engine, [make("new", PROMPT[:5], greedy(max_tokens=4))], told=told)

    assert told.ended == ["new", "old"]


def test_a_stop_token_ends_a_sequence_and_is_not_told(
    engine: StreamEngine, reference: ModelReference
) -> None:
    whole, _ = reference.generate(make("a", PROMPT, GREEDY))
    stop = whole[5]
    params = greedy(stop_token_ids=(VOCAB_SIZE - 1, stop), ignore_eos=False)

    told = run(engine, [make("a", PROMPT, params)])

    assert 0 < whole.index(stop) < len(whole)
    assert told.tokens["a"] == whole[: whole.index(stop)]
    assert told.reasons == {"a": FinishReason.STOP}


def test_who_ignores_the_end_gets_all_tokens(
    engine: StreamEngine, reference: ModelReference
) -> None:
    whole, _ = reference.generate(make("a", PROMPT, GREEDY))

    told = run(engine, [make("a", PROMPT, greedy(stop_token_ids=(EOS_TOKEN_ID, whole[5])))])

    assert told.tokens == {"a": whole}
    assert told.reasons == {"a": FinishReason.LENGTH}


def test_a_sequence_that_was_begun_elsewhere_goes_on(
    engine: StreamEngine, reference: ModelReference
) -> None:
    whole, _ = reference.generate(make("a", PROMPT, GREEDY))

    told = run(engine, [make("a", PROMPT, GREEDY, whole[:7])])

    # Its bound counts what it had.
    assert told.tokens == {"a": whole[7:]}
    assert told.reasons == {"a": FinishReason.LENGTH}


def test_min_tokens_count_what_a_sequence_had_already(
    engine: StreamEngine, reference: ModelReference
) -> None:
    whole, _ = reference.generate(make("a", PROMPT, GREEDY))
    params = greedy(stop_token_ids=(whole[8],), ignore_eos=False, min_tokens=7)

    told = run(engine, [make("a", PROMPT, params, whole[:7])])

    assert told.tokens.get("a", []) == whole[7 : max(7, whole.index(whole[8], 7))]
    assert told.reasons == {"a": FinishReason.STOP}


def test_a_prompt_that_was_computed_before_gives_the_same_text(
    engine: StreamEngine, reference: ModelReference
) -> None:
    prompt = random_prompt(8, 150)
    first, second = make("first", prompt, GREEDY), make("second", [*prompt, 9, 9], GREEDY)
    run(engine, [first])

    told = run(engine, [make("again", prompt, GREEDY), second])

    assert told.tokens["again"] == reference.generate(first)[0]
    assert told.tokens["second"] == reference.generate(second)[0]
    assert all(0 <= num_cached < len(prompt) + 2 for num_cached in told.started.values())


def test_an_aborted_sequence_is_not_heard_of_again(engine: StreamEngine) -> None:
    told = run(
        engine,
        [make("a", PROMPT, greedy(max_tokens=200)), make("b", PROMPT, greedy(max_tokens=60))],
        until=lambda told: len(told.tokens) == 2,
    )
    num_told = len(told.tokens["a"])

    engine.abort(["a"])
    run(engine, told=told)

    assert told.ended == ["b"]
    assert len(told.tokens["a"]) == num_told


def test_a_sequence_may_be_aborted_before_it_began(engine: StreamEngine) -> None:
    for number in range(2 * MAX_BATCH_SIZE):
        engine.submit(make(str(number), random_prompt(number, 30), greedy(max_tokens=200)))
    engine.abort([str(number) for number in range(2 * MAX_BATCH_SIZE)])

    assert not run(engine).tokens


def test_aborted_sequences_free_their_places(engine: StreamEngine) -> None:
    names = [str(number) for number in range(MAX_BATCH_SIZE)]
    endless = [make(name, PROMPT, greedy(max_tokens=200)) for name in names]
    told = run(engine, endless, until=lambda told: len(told.tokens) == MAX_BATCH_SIZE)
    engine.submit(make("next", PROMPT, greedy(max_tokens=2)))
    engine.abort(names)

    run(engine, told=told)

    assert told.ended == ["next"]


def test_aborted_sequences_free_their_memory(engine: StreamEngine) -> None:
    # Together they would take several times the memory that there is.
    for number in range(50):
        sequence = make(f"dropped-{number}", random_prompt(number, 200), greedy(max_tokens=50))
        run(engine, [sequence], until=lambda told: bool(told.tokens))
        engine.abort([sequence.sequence_id])

    full = [
        make(str(number), random_prompt(100 + number, 200), greedy(max_tokens=56))
        for number in range(MAX_BATCH_SIZE)
    ]
    told = run(engine, full)

    assert not told.failures
    assert all(len(tokens) == 56 for tokens in told.tokens.values())
    assert len(told.ended) == MAX_BATCH_SIZE


def test_aborting_what_has_ended_or_never_was_changes_nothing(engine: StreamEngine) -> None:
    run(engine, [make("a", PROMPT, GREEDY)])
    engine.abort(["a", "never"])

    told = run(engine, [make("b", PROMPT, GREEDY)])
    engine.abort([])

    assert told.ended == ["b"]


def test_a_name_may_be_used_again(engine: StreamEngine) -> None:
    first = run(engine, [make("a", PROMPT, GREEDY)])
    second = run(engine, [make("a", PROMPT, GREEDY)])

    assert second.tokens == first.tokens


def test_a_sequence_that_does_not_fit_the_context_fails_alone(engine: StreamEngine) -> None:
    told = run(
        engine,
        [
            make("long", random_prompt(0, CONTEXT_LENGTH + 10), GREEDY),
            make("good", PROMPT, GREEDY),
        ],
    )

    assert list(told.failures) == ["long"]
    assert "256" in str(told.failures["long"])
    assert len(told.tokens["good"]) == 16


def test_sequences_of_full_length_are_answered_with_memory_for_one(
    stream_class: type[StreamEngine], stream_spec: EngineSpec, reference: ModelReference
) -> None:
    engine = stream_class()
    engine.start(msgspec.structs.replace(stream_spec, max_kv_bytes=0))
    sequences = [
        make(str(seed), random_prompt(seed, 200), greedy(max_tokens=56)) for seed in range(3)
    ]
    expected = {one.sequence_id: reference.generate(one)[0] for one in sequences}

    told = run(engine, sequences)
    engine.stop()

    assert told.tokens == expected


def test_without_reuse_nothing_is_taken_from_a_cache(
    stream_class: type[StreamEngine], stream_spec: EngineSpec
) -> None:
    engine = stream_class()
    engine.start(msgspec.structs.replace(stream_spec, is_reusing=False))
    run(engine, [make("a", random_prompt(8, 150), GREEDY)])

    told = run(engine, [make("b", random_prompt(8, 150), GREEDY)])
    engine.stop()

    assert told.started == {"b": 0}


def test_memory_for_less_than_one_full_sequence_is_refused(
    stream_class: type[StreamEngine], stream_spec: EngineSpec
) -> None:
    with pytest.raises(EngineStartError, match=r"max_memory_mb.*one sequence of 256 tokens"):
        stream_class().start(msgspec.structs.replace(stream_spec, max_kv_bytes=100))


def test_stop_is_safe_twice_and_before_a_start(
    stream_class: type[StreamEngine], stream_spec: EngineSpec
) -> None:
    engine = stream_class()
    engine.stop()
    engine.start(stream_spec)
    engine.submit(make("a", PROMPT, GREEDY))
    engine.stop()
    engine.stop()

    assert not engine.has_work


def test_it_starts_again_after_a_stop(
    stream_class: type[StreamEngine], stream_spec: EngineSpec, reference: ModelReference
) -> None:
    engine = stream_class()
    for _ in range(2):
        engine.start(stream_spec)
        told = run(engine, [make("a", PROMPT, GREEDY)])
        engine.stop()

        assert told.tokens["a"] == reference.generate(make("a", PROMPT, GREEDY))[0]


@pytest.mark.parametrize("name", STREAM_ENGINES)
def test_its_module_states_a_name_that_the_registry_knows(name: str) -> None:
    assert load_engine(name).name == name

"""Grammar states beside the batcher, over the real echo engine and the real grammar library."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mm_orch.batching.batcher import BatcherSpec, DynamicBatcher
from mm_orch.batching.guidance import Guidance
from mm_orch.core.errors import EngineFailedError, InvalidValueError, UnsupportedError
from mm_orch.core.generation import FinishReason, SamplingParams, TokenChunk
from mm_orch.core.guide import Guide, JsonObjectShape, JsonSchemaShape
from mm_orch.kv_cache.cache import KVCache
from mm_orch.models.grammar import GrammarCompiler
from mm_orch.models.text import TextCodec
from mm_orch.optimization.engines.contract import EngineSpec, ScheduledSequence, Sequence
from mm_orch.optimization.engines.echo import EchoBackend
from tests.tiny_models import EOS_TOKEN_ID
from tests.tiny_tokenizer import write_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence as Batch
    from pathlib import Path

SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["fox", "dog"]},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["kind", "age"],
    "additionalProperties": False,
}
GUIDE = Guide(shape=JsonSchemaShape(json.dumps(SCHEMA)))


class StubbornEcho(EchoBackend):
    """An echo that looks at no mask."""

    def step(self, batch: Batch[ScheduledSequence]) -> list[TokenChunk]:
        for scheduled in batch:
            scheduled.sequence.mask = None
        return super().step(batch)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def codec(directory: Path) -> TextCodec:
    return TextCodec.from_directory(directory)


@pytest.fixture
def guidance(directory: Path) -> Guidance:
    return Guidance(GrammarCompiler(directory, (EOS_TOKEN_ID,)))


def make_batcher(
    guidance: Guidance | None, backend: EchoBackend | None = None, *, num_blocks: int | None = None
) -> DynamicBatcher:
    backend = backend or EchoBackend()
    facts = backend.start(
        EngineSpec(
            model="m",
            directory="",
            cache_directory="",
            context_length=160,
            eos_token_ids=(EOS_TOKEN_ID,),
        )
    )
    cache = KVCache(num_blocks or facts.num_kv_blocks, facts.kv_block_tokens)
    spec = BatcherSpec(max_batch_size=4, max_batch_tokens=100)
    return DynamicBatcher(backend, cache, spec, lambda: 0.0, guidance)


def make(
    name: str, guide: Guide | None = GUIDE, *, prompt: list[int] | None = None, max_tokens: int = 60
) -> Sequence:
    return Sequence(
        sequence_id=name,
        token_ids=list(prompt or [70, 90, 110, 50]),
        params=SamplingParams(max_tokens=max_tokens, guide=guide, stop_token_ids=(EOS_TOKEN_ID,)),
    )


def run(batcher: DynamicBatcher) -> dict[str, tuple[list[int], FinishReason | None]]:
    told: dict[str, tuple[list[int], FinishReason | None]] = {}
    while batcher.has_work:
        report = batcher.step()
        assert not report.failed
        for chunk in report.chunks:
            tokens, _ = told.get(chunk.sequence_id, ([], None))
            told[chunk.sequence_id] = ([*tokens, *chunk.token_ids], chunk.finish_reason)
    return told


def test_a_guided_answer_is_whole_and_ends_without_an_end_token(
    guidance: Guidance, codec: TextCodec
) -> None:
    batcher = make_batcher(guidance)
    batcher.add(make("a"))

    token_ids, reason = run(batcher)["a"]

    answer = json.loads(codec.decode(token_ids))
    assert answer["kind"] in {"fox", "dog"}
    assert 0 <= answer["age"] <= 99
    assert reason is FinishReason.STOP
    assert EOS_TOKEN_ID not in token_ids
    assert not guidance._matchers


def test_neighbours_without_a_guide_say_what_they_say_alone(guidance: Guidance) -> None:
    alone, beside = make_batcher(guidance), make_batcher(guidance)
    alone.add(make("free", guide=None))
    for sequence in (make("a"), make("free", guide=None), make("b")):
        beside.add(sequence)

    assert run(beside)["free"] == run(alone)["free"]


def test_max_tokens_may_cut_a_shape(guidance: Guidance) -> None:
    batcher = make_batcher(guidance)
    batcher.add(make("a", max_tokens=3))

    token_ids, reason = run(batcher)["a"]

    assert len(token_ids) == 3
    assert reason is FinishReason.LENGTH
    assert not guidance._matchers


def test_an_answer_that_was_begun_elsewhere_goes_on_in_the_middle_of_its_shape(
    guidance: Guidance, directory: Path
) -> None:
    whole_batcher = make_batcher(guidance)
    whole_batcher.add(make("a"))
    whole, _ = run(whole_batcher)["a"]
    prompt = make("a").token_ids
    for num_delivered in range(1, len(whole)):
        resumed = make("b", prompt=[*prompt, *whole[:num_delivered]])
        resumed.num_prompt_tokens = len(prompt)
        batcher = make_batcher(Guidance(GrammarCompiler(directory, (EOS_TOKEN_ID,))))
        batcher.add(resumed)

        rest, reason = run(batcher)["b"]

        assert whole[:num_delivered] + rest == whole
        assert reason is FinishReason.STOP


def test_an_answer_that_was_begun_against_its_shape_is_lost_alone(guidance: Guidance) -> None:
    batcher = make_batcher(guidance)
    strange = make("strange", prompt=[70, 90, 110, 50])
    strange.num_prompt_tokens = 2
    for sequence in (strange, make("a")):
        batcher.add(sequence)

    report = batcher.step()

    assert [sequence_id for sequence_id, _ in report.failed] == ["strange"]
    assert isinstance(report.failed[0][1], EngineFailedError)
    assert [chunk.sequence_id for chunk in report.chunks] == ["a"]
    assert batcher.num_running == 1


def test_who_gives_its_memory_up_goes_on_with_its_shape(guidance: Guidance) -> None:
    roomy, narrow = make_batcher(guidance), make_batcher(guidance, num_blocks=11)
    prompts = {name: [60 + number] * 40 for number, name in enumerate("abc")}
    for batcher in (roomy, narrow):
        for name, prompt in prompts.items():
            batcher.add(make(name, prompt=prompt))
    num_preempted = 0
    told: dict[str, list[int]] = {}

    while narrow.has_work:
        report = narrow.step()
        assert not report.failed
        num_preempted += report.num_preempted
        for chunk in report.chunks:
            told.setdefault(chunk.sequence_id, []).extend(chunk.token_ids)

    assert told == {name: token_ids for name, (token_ids, _) in run(roomy).items()}
    assert num_preempted > 0


def test_an_engine_that_leaves_the_shape_loses_the_sequence(guidance: Guidance) -> None:
    batcher = make_batcher(guidance, StubbornEcho())
    batcher.add(make("a"))

    [(sequence_id, error)] = batcher.step().failed

    assert sequence_id == "a"
    assert isinstance(error, EngineFailedError)
    assert "not allowed by the grammar" in error.message
    assert not batcher.has_work
    assert not guidance._matchers


def test_a_guide_that_the_library_refuses_loses_its_sequence_alone(guidance: Guidance) -> None:
    batcher = make_batcher(guidance)
    bad = Guide(shape=JsonSchemaShape('{"type": "nonsense"}'))
    for sequence in (make("bad", bad), make("a")):
        batcher.add(sequence)

    report = batcher.step()

    assert [(name, type(error)) for name, error in report.failed] == [("bad", InvalidValueError)]
    assert [chunk.sequence_id for chunk in report.chunks] == ["a"]


def test_without_a_tokeniser_a_guided_sequence_is_refused() -> None:
    batcher = make_batcher(None)
    batcher.add(make("a"))

    [(_, error)] = batcher.step().failed

    assert isinstance(error, UnsupportedError)


def test_who_is_aborted_leaves_no_state(guidance: Guidance) -> None:
    batcher = make_batcher(guidance)
    for name in "ab":
        batcher.add(make(name, Guide(shape=JsonObjectShape())))
    batcher.step()
    assert len(guidance._matchers) == 2

    batcher.abort(["a", "b", "never seen"])

    assert not guidance._matchers

"""Guides on the OpenVINO engine: which models keep them, and what its library keeps of them."""

from __future__ import annotations

import json
import weakref
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from mm_orch.core.generation import FinishReason, SamplingParams
from mm_orch.models.text import TextCodec
from mm_orch.optimization.engines.openvino import grammars, loading
from mm_orch.optimization.engines.openvino.engine import OpenVinoEngine
from tests.contracts.streaming import make, run
from tests.plain_schemas import find_grammar, guide_of, plain_schemas
from tests.tiny_models import EOS_TOKEN_ID, make_llama
from tests.tiny_tokenizer import write_tokenizer
from tests.unit.optimization.test_openvino_engine import GREEDY, PROMPT, spec_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mm_orch.optimization.engines.contract import Sequence

pytest.importorskip("openvino_genai", reason="openvino: not installed")


@pytest.fixture
def engine() -> Iterator[OpenVinoEngine]:
    engine = OpenVinoEngine()
    yield engine
    engine.stop()


def guided(number: int, **changes: object) -> Sequence:
    """Make a sequence whose grammar no other has."""
    schema = {"type": "array", "items": {"const": number}, "minItems": 3, "maxItems": 40}
    params = SamplingParams(
        max_tokens=200, temperature=1.0, guide=guide_of(schema), stop_token_ids=(EOS_TOKEN_ID,)
    )
    return make(str(number), PROMPT, msgspec.structs.replace(params, **changes))


def test_without_a_tokeniser_it_keeps_no_guides(engine: OpenVinoEngine, tmp_path: Path) -> None:
    facts = engine.start(spec_of(make_llama(tmp_path / "model")))

    told = run(engine, [guided(1)])

    assert facts.guides == "none"
    assert "guide" in str(told.failures["1"])


def test_tokens_beyond_the_models_do_no_harm(engine: OpenVinoEngine, tmp_path: Path) -> None:
    directory = make_llama(tmp_path / "model")
    write_tokenizer(directory)
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.add_tokens([f"more{number}" for number in range(500)])
    tokenizer.save(str(directory / "tokenizer.json"))

    facts = engine.start(spec_of(directory))

    told = run(engine, [guided(number) for number in range(8)])
    assert facts.guides == "plain"
    assert set(told.reasons.values()) == {FinishReason.STOP}


def test_without_a_token_for_each_byte_it_keeps_no_guides(
    engine: OpenVinoEngine, tmp_path: Path
) -> None:
    directory = make_llama(tmp_path / "model")
    write_tokenizer(directory)
    path = directory / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    # The byte 0x80 as byte-level tokenisers spell it.
    vocabulary["aa"] = vocabulary.pop("\u0122")
    path.write_text(json.dumps(content))

    assert engine.start(spec_of(directory)).guides == "none"


def test_a_pipeline_that_guides_wrongly_has_left_the_memory_before_another_is_loaded(
    engine: OpenVinoEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[weakref.ref[Any]] = []
    num_living: list[int] = []
    load = loading._open

    def load_and_count(*args: Any, **keys: Any) -> Any:
        num_living.append(sum(one() is not None for one in opened))
        pipeline = load(*args, **keys)
        opened.append(weakref.ref(pipeline))
        return pipeline

    monkeypatch.setattr(loading, "_open", load_and_count)
    monkeypatch.setattr(loading, "_can_guide", lambda *_: False)

    facts = engine.start(spec_of(write_tokenizer(make_llama(tmp_path / "model"))))

    assert facts.guides == "none"
    assert len(num_living) > 1
    assert not any(num_living)


def test_a_pipeline_that_has_seen_many_grammars_is_replaced_and_nobody_is_lost(
    engine: OpenVinoEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = make_llama(tmp_path / "model")
    write_tokenizer(directory)
    engine.start(spec_of(directory, max_batch_size=3))
    first = engine._pipeline
    monkeypatch.setattr(grammars, "MAX_CHARS", 400)
    sequence = make("plain", PROMPT, GREEDY)
    [alone] = run(engine, [sequence]).tokens.values()

    told = run(engine, [sequence, *(guided(number) for number in range(12))])

    assert engine._pipeline is not first
    assert not told.failures
    assert told.tokens["plain"] == alone
    assert len(told.reasons) == 13
    codec = TextCodec.from_directory(directory)
    for number in range(12):
        assert set(json.loads(codec.decode(told.tokens[str(number)]))) == {number}


@pytest.fixture(scope="module")
def guiding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenVinoEngine, TextCodec]]:
    directory = write_tokenizer(make_llama(tmp_path_factory.mktemp("guiding") / "model"))
    engine = OpenVinoEngine()
    assert engine.start(spec_of(directory)).guides == "plain"
    yield engine, TextCodec.from_directory(directory)
    engine.stop()


@given(st.lists(plain_schemas(), min_size=4, max_size=4), st.integers(0, 1000))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_plain_schema_is_asked_for_is_kept(
    guiding: tuple[OpenVinoEngine, TextCodec], schemas: list[dict[str, object]], seed: int
) -> None:
    engine, codec = guiding
    schemas = [schema for schema in schemas if find_grammar(schema) is not None]

    told = run(
        engine,
        [
            guided(number, guide=guide_of(schema), seed=seed)
            for number, schema in enumerate(schemas)
        ],
    )

    assert not told.failures
    for number, schema in enumerate(schemas):
        if told.reasons[str(number)] is FinishReason.STOP:
            text = codec.decode(told.tokens[str(number)])
            jsonschema_rs.validate(schema, json.loads(text))

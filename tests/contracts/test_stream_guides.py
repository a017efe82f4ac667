"""Stream engines keep answers to the guides that their facts name, and hurt nobody by it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from mm_orch.core.generation import FinishReason, SamplingParams
from mm_orch.core.guide import Guide, JsonSchemaShape
from mm_orch.models.text import TextCodec
from tests.contracts.guided import SCHEMA, assert_valid
from tests.contracts.streaming import (
    GREEDY,
    MAX_BATCH_SIZE,
    PROMPT,
    make,
    random_prompt,
    run,
)
from tests.plain_schemas import guide_of
from tests.tiny_models import EOS_TOKEN_ID, make_wide_llama
from tests.tiny_tokenizer import write_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mm_orch.optimization.engines.contract import EngineSpec, Sequence, StreamEngine

PATTERN = {"type": "string", "pattern": "^a$"}
GUIDED = SamplingParams(
    max_tokens=120, temperature=1.5, guide=guide_of(SCHEMA), stop_token_ids=(EOS_TOKEN_ID,)
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(make_wide_llama(tmp_path_factory.mktemp("guided-llama")))


@pytest.fixture(scope="module")
def guided_spec(stream_spec: EngineSpec, directory: Path) -> EngineSpec:
    return replace(stream_spec, directory=str(directory))


@pytest.fixture(scope="module")
def guiding(stream_class: type[StreamEngine], guided_spec: EngineSpec) -> Iterator[StreamEngine]:
    """The engine with a model whose tokens it can read."""
    engine = stream_class()
    if engine.start(guided_spec).guides == "none":
        engine.stop()
        pytest.fail("it keeps no guides though the model has a tokeniser")
    yield engine
    assert not engine.has_work
    engine.stop()


@pytest.fixture(scope="module")
def codec(directory: Path) -> TextCodec:
    return TextCodec.from_directory(directory)


def guided(name: str, **params: object) -> Sequence:
    return make(name, PROMPT, replace(GUIDED, **params))


def test_guided_answers_are_whole_and_valid(guiding: StreamEngine, codec: TextCodec) -> None:
    names = [str(seed) for seed in range(3 * MAX_BATCH_SIZE)]

    told = run(guiding, [guided(n, seed=int(n), temperature=1.5 * (n > "0")) for n in names])

    assert set(told.reasons.values()) == {FinishReason.STOP}
    texts = [codec.decode(told.tokens[name]) for name in names]
    for text in texts:
        assert_valid(text)
    assert len(set(texts)) > 1


def test_an_answer_that_is_cut_short_says_so(guiding: StreamEngine, codec: TextCodec) -> None:
    told = run(guiding, [guided("a", max_tokens=5)])

    assert told.reasons["a"] is FinishReason.LENGTH
    assert codec.decode(told.tokens["a"]).startswith("{")


def test_guides_change_nothing_for_the_neighbours(guiding: StreamEngine) -> None:
    alone = run(guiding, [make("alone", PROMPT, GREEDY)]).tokens["alone"]

    told = run(guiding, [guided("g", seed=1), make("x", PROMPT, GREEDY), guided("h", seed=2)])

    assert told.tokens["x"] == alone
    assert not told.failures


def test_a_guided_answer_is_the_same_with_its_prompt_cached(guiding: StreamEngine) -> None:
    prompt = random_prompt(77, 70)
    params = replace(GUIDED, temperature=0.0)

    first = run(guiding, [make("a", prompt, params)])
    again = run(guiding, [make("a", prompt, params)])

    assert first.started["a"] < again.started["a"]
    assert first.tokens == again.tokens


def test_a_seed_gives_the_same_guided_answer_again(guiding: StreamEngine) -> None:
    one, again, other = (run(guiding, [guided("a", seed=s)]).tokens["a"] for s in (5, 5, 6))

    assert one == again != other


def test_log_probabilities_of_guided_tokens_are_told(guiding: StreamEngine) -> None:
    for temperature in (0.0, 1.5):
        told = run(guiding, [guided("a", num_logprobs=0, seed=4, temperature=temperature)])

        assert told.reasons["a"] is FinishReason.STOP
        assert [one.token_id for one in told.logprobs["a"]] == told.tokens["a"]
        assert all(one.logprob <= 0 for one in told.logprobs["a"])


@pytest.mark.parametrize(
    "changes",
    [
        {"top_k": 2},
        {"top_p": 0.1},
        {"min_p": 0.9},
        {"top_k": 50, "top_p": 0.9, "temperature": 2.0},
        {"frequency_penalty": 2.0, "presence_penalty": 2.0, "temperature": 0.0},
        {"temperature": 1e-5, "top_k": 5},
    ],
    ids=str,
)
def test_guides_hold_with_every_kind_of_draw(
    guiding: StreamEngine, codec: TextCodec, changes: dict[str, object]
) -> None:
    told = run(guiding, [guided(str(seed), seed=seed, **changes) for seed in range(4)])

    assert set(told.reasons.values()) == {FinishReason.STOP}
    for tokens in told.tokens.values():
        assert_valid(codec.decode(tokens))


def test_a_guided_sequence_that_is_dropped_leaves_nothing(
    guiding: StreamEngine, codec: TextCodec
) -> None:
    endless = guide_of({"type": "array", "items": {"type": "integer"}, "minItems": 128})
    names = [str(number) for number in range(2 * MAX_BATCH_SIZE)]
    run(guiding, [guided(n, guide=endless) for n in names], until=lambda told: bool(told.tokens))

    guiding.abort(names)
    told = run(guiding, [guided("after", seed=1)])

    assert set(told.tokens) == {"after"}
    assert_valid(codec.decode(told.tokens["after"]))


def test_what_it_cannot_keep_to_hurts_nobody(
    guiding: StreamEngine, guided_spec: EngineSpec
) -> None:
    if guiding.start(guided_spec).guides == "all":
        pytest.skip("it keeps every guide")

    told = run(
        guiding,
        [
            guided("good", seed=1),
            guided("bad", guide=Guide(shape=JsonSchemaShape(json.dumps(PATTERN)))),
            make("begun", PROMPT, GUIDED, outputs=[40, 41]),
            guided("endless", ignore_eos=True),
        ],
    )

    assert set(told.failures) == {"bad", "begun", "endless"}
    assert all("guide" in str(error) for error in told.failures.values())
    assert told.reasons["good"] is FinishReason.STOP


ODD = [
    'a"\\\n',
    "M\u00fcde",
    "\u00b80",
    "\x7f0",
    "\U0001f600a",
    "[^-]",
    "\u2028",
    "(a|b)*",
    "^",
    "-",
    "]",
]


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_texts_come_out_as_they_stand_in_the_schema(
    guiding: StreamEngine, codec: TextCodec, text: str
) -> None:
    constant = {"const": text}
    named = {
        "type": "object",
        "properties": {text: constant},
        "required": [text],
        "additionalProperties": False,
    }

    told = run(guiding, [guided("a", guide=guide_of(constant)), guided("b", guide=guide_of(named))])

    assert json.loads(codec.decode(told.tokens["a"])) == text
    assert json.loads(codec.decode(told.tokens["b"])) == {text: text}

"""Whatever logits come, a guided answer that is finished is valid under its schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_orch.batching.guidance import Guidance
from mm_orch.core.generation import SamplingParams
from mm_orch.core.guide import Guide, JsonObjectShape, JsonSchemaShape, Tag, TagsShape
from mm_orch.models.grammar import GrammarCompiler
from mm_orch.models.text import TextCodec
from mm_orch.models.tool_formats import GENERIC
from mm_orch.optimization.engines.contract import Sequence
from mm_orch.optimization.engines.sampling import sample
from mm_orch.orchestration.tool_calls import ToolCallReader
from tests.tiny_models import EOS_TOKEN_ID, VOCAB_SIZE
from tests.tiny_tokenizer import write_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

MAX_TOKENS = 400
# Models have rows for tokens that no tokeniser has.
NUM_LOGITS = VOCAB_SIZE + 12

WORD = st.text("abcxyz é日", min_size=1, max_size=5)
LEAVES = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(lambda size: {"type": "string", "maxLength": size}, st.integers(0, 6)),
    st.builds(
        lambda low, span: {"type": "integer", "minimum": low, "maximum": low + span},
        st.integers(-500, 500),
        st.integers(0, 500),
    ),
    st.builds(lambda words: {"enum": words}, st.lists(WORD, min_size=1, max_size=3)),
    st.just({"type": "string", "pattern": "^[a-c]{1,3}-[0-9]$"}),
    st.just({"type": "string", "format": "date"}),
)


def object_of(properties: dict[str, Any], num_required: int) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties)[:num_required],
        "additionalProperties": False,
    }


OBJECTS = st.recursive(
    st.builds(object_of, st.dictionaries(WORD, LEAVES, max_size=3), st.integers(0, 3)),
    lambda inner: st.builds(
        object_of,
        st.dictionaries(
            WORD,
            inner
            | LEAVES
            | st.builds(
                lambda items, most: {"type": "array", "items": items, "maxItems": most},
                LEAVES,
                st.integers(0, 3),
            ),
            max_size=3,
        ),
        st.integers(0, 3),
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"), marks=("<tool_call>",))


@pytest.fixture(scope="module")
def codec(directory: Path) -> TextCodec:
    return TextCodec.from_directory(directory)


@pytest.fixture(scope="module")
def compiler(directory: Path) -> GrammarCompiler:
    return GrammarCompiler(directory, (EOS_TOKEN_ID,))


def generate(compiler: GrammarCompiler, guide: Guide, seed: int, *, hop: bool) -> list[int] | None:
    """Draw from random logits; with ``hop``, another state takes over before each token.

    None where the answer was not finished within MAX_TOKENS.
    """
    logits = torch.Generator().manual_seed(seed)
    params = SamplingParams(max_tokens=MAX_TOKENS, guide=guide, seed=seed, temperature=1.5)
    sequence = Sequence(sequence_id="a", token_ids=[5, 6], params=params)
    guidance = Guidance(compiler)
    while sequence.num_output_tokens < MAX_TOKENS:
        if hop:
            guidance = Guidance(compiler)
            sequence.mask = None
        guidance.mask(sequence)
        row = torch.randn(1, NUM_LOGITS, generator=logits) * 3
        [chunk] = sample(row, [sequence])
        if chunk.token_ids == (EOS_TOKEN_ID,):
            return sequence.token_ids[2:]
        sequence.token_ids.extend(chunk.token_ids)
        if guidance.accept(sequence, chunk.token_ids):
            return sequence.token_ids[2:]
    return None


@given(OBJECTS, st.integers(0, 2**32), st.booleans())
@settings(max_examples=80, deadline=None)
def test_a_finished_answer_is_valid_under_its_schema(
    codec: TextCodec,
    compiler: GrammarCompiler,
    schema: dict[str, Any],
    seed: int,
    hop: bool,  # noqa: FBT001 - a strategy's value
) -> None:
    guide = Guide(shape=JsonSchemaShape(json.dumps(schema)))

    token_ids = generate(compiler, guide, seed, hop=hop)

    if token_ids is not None:
        answer = json.loads(codec.decode(token_ids))
        jsonschema_rs.validate(schema, answer, validate_formats=True)


@given(st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_a_state_that_is_made_anew_for_each_token_allows_the_same(
    compiler: GrammarCompiler, seed: int
) -> None:
    guide = Guide(shape=JsonObjectShape())

    assert generate(compiler, guide, seed, hop=True) == generate(compiler, guide, seed, hop=False)


@given(OBJECTS, OBJECTS, st.integers(0, 2**32), st.booleans())
@settings(max_examples=40, deadline=None)
def test_finished_calls_name_a_tool_and_its_arguments_are_valid(
    codec: TextCodec,
    compiler: GrammarCompiler,
    first: dict[str, Any],
    second: dict[str, Any],
    seed: int,
    is_single: bool,  # noqa: FBT001 - a strategy's value
) -> None:
    schemas = {"first": first, "second": second}
    shape = TagsShape(
        tags=tuple(
            Tag(begin=GENERIC.write_head(name), schema=json.dumps(schema), end="}" + GENERIC.end)
            for name, schema in schemas.items()
        ),
        separator=GENERIC.separator,
        is_single=is_single,
    )

    token_ids = generate(compiler, Guide(shape=shape), seed, hop=False)

    if token_ids is None:
        return
    reader = ToolCallReader(GENERIC, schemas, is_guided=True, is_single=is_single)
    found = reader.push(codec.decode(token_ids))
    assert found.text == ""
    assert reader.num_calls == 1 or not is_single
    names = [call.name for call in found.calls if call.id]
    for index, name in enumerate(names):
        pieces = [call.arguments for call in found.calls if call.index == index]
        jsonschema_rs.validate(schemas[name], json.loads("".join(pieces)), validate_formats=True)

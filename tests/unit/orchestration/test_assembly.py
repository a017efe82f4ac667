from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.core.generation import FinishReason, TextDelta, TokenChunk, TokenLogprob
from mm_orch.models.text import TextCodec
from mm_orch.orchestration.assembly import ChoiceAssembler
from tests.property.test_text import make_byte_level

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> TextCodec:
    directory: Path = tmp_path_factory.mktemp("tokenizer")
    make_byte_level().save(str(directory / "tokenizer.json"))
    return TextCodec.from_directory(directory)


def chunks_of(
    codec: TextCodec, text: str, reason: FinishReason, *, with_logprobs: bool = False
) -> list[TokenChunk]:
    token_ids = codec.encode_literal(text)
    return [
        TokenChunk(
            sequence_id="a",
            token_ids=(token_id,),
            logprobs=(TokenLogprob(token_id, -0.5),) if with_logprobs else None,
            finish_reason=reason if index == len(token_ids) - 1 else None,
        )
        for index, token_id in enumerate(token_ids)
    ]


def assemble(assembler: ChoiceAssembler, chunks: list[TokenChunk]) -> list[TextDelta]:
    """Push until a delta ends the choice, as the running generation does."""
    deltas = []
    for chunk in chunks:
        delta = assembler.push(chunk)
        if delta is not None:
            deltas.append(delta)
            if delta.finish_reason is not None:
                break
    return deltas


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40))
def test_deltas_make_up_the_text_and_count_every_token(codec: TextCodec, text: str) -> None:
    chunks = chunks_of(codec, text, FinishReason.LENGTH)

    deltas = assemble(ChoiceAssembler(0, codec, ()), chunks)

    assert "".join(delta.text for delta in deltas) == text
    assert sum(delta.num_tokens for delta in deltas) == len(chunks)
    assert [d.finish_reason for d in deltas if d.finish_reason] == [FinishReason.LENGTH]


def test_a_stop_string_ends_the_choice_before_it(codec: TextCodec) -> None:
    deltas = assemble(
        ChoiceAssembler(0, codec, ("brown", "zebra")),
        chunks_of(codec, "the quick brown fox", FinishReason.LENGTH),
    )

    assert "".join(delta.text for delta in deltas) == "the quick "
    assert deltas[-1].finish_reason is FinishReason.STOP


def test_text_that_only_begins_like_a_stop_string_comes_in_the_end(codec: TextCodec) -> None:
    deltas = assemble(
        ChoiceAssembler(0, codec, ("fox!",)),
        chunks_of(codec, "the quick brown fox", FinishReason.STOP),
    )

    assert "".join(delta.text for delta in deltas) == "the quick brown fox"


@given(st.sampled_from(["fox", "quick", "qu", "zzz", "e"]))
def test_log_probabilities_tell_of_the_text_that_is_shown(codec: TextCodec, stop: str) -> None:
    chunks = chunks_of(codec, "the quick brown fox", FinishReason.LENGTH, with_logprobs=True)

    deltas = assemble(ChoiceAssembler(0, codec, (stop,)), chunks)

    text = "".join(delta.text for delta in deltas)
    told = "".join(p.token for delta in deltas for p in delta.logprobs or ())
    # The token in which the stop string begins is told as a whole.
    assert told.startswith(text)
    assert len(told) - len(text) < max(map(len, ["the", " quick", " brown", " fox"]))


def test_an_end_without_text_is_still_told(codec: TextCodec) -> None:
    chunk = TokenChunk(sequence_id="a", token_ids=(), finish_reason=FinishReason.STOP)

    delta = ChoiceAssembler(3, codec, ()).push(chunk)

    assert delta == TextDelta(index=3, text="", num_tokens=0, finish_reason=FinishReason.STOP)

"""Thoughts and calls in the deltas of a choice, made of real tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mm_orch.core.generation import FinishReason, TextDelta, TokenChunk, TokenLogprob
from mm_orch.core.guide import ThoughtMarks
from mm_orch.models.text import TextCodec
from mm_orch.models.tool_formats import TOOL_FORMATS
from mm_orch.orchestration.assembly import ChoiceAssembler
from mm_orch.orchestration.reading import Reading
from tests.tiny_tokenizer import write_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

HERMES, MISTRAL = TOOL_FORMATS[:2]
READING = Reading(thoughts=ThoughtMarks(begin="<think>", end="</think>"))
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> TextCodec:
    directory: Path = tmp_path_factory.mktemp("tokenizer")
    marks = ("<think>", "</think>")
    return TextCodec.from_directory(
        write_tokenizer(directory, marks=marks, special_marks=("[TOOL_CALLS]", "<|pad|>"))
    )


def assemble(
    codec: TextCodec,
    text: str,
    reading: Reading,
    *,
    stop: tuple[str, ...] = (),
    chunk_size: int = 1,
    reason: FinishReason = FinishReason.STOP,
) -> list[TextDelta]:
    token_ids = codec.encode_rendered(text)
    assembler = ChoiceAssembler(0, codec, stop, reading)
    deltas: list[TextDelta] = []
    for begin in range(0, len(token_ids), chunk_size):
        piece = tuple(token_ids[begin : begin + chunk_size])
        is_last = begin + chunk_size >= len(token_ids)
        chunk = TokenChunk(
            sequence_id="a",
            token_ids=piece,
            logprobs=tuple(TokenLogprob(token_id, -0.5) for token_id in piece),
            finish_reason=reason if is_last else None,
        )
        if delta := assembler.push(chunk):
            deltas.append(delta)
            if delta.finish_reason:
                break
    return deltas


@pytest.mark.parametrize("chunk_size", [1, 4, 100])
def test_the_tokens_of_thoughts_are_counted_marks_included(
    codec: TextCodec, chunk_size: int
) -> None:
    text = "<think>\nHm, well.\n</think>\n\nHello you"
    num_thought = len(codec.encode_rendered("<think>\nHm, well.\n</think>"))

    deltas = assemble(codec, text, READING, chunk_size=chunk_size)

    assert "".join(delta.reasoning for delta in deltas) == "Hm, well."
    assert "".join(delta.text for delta in deltas) == "Hello you"
    assert sum(delta.num_reasoning_tokens for delta in deltas) == num_thought
    assert sum(delta.num_tokens for delta in deltas) == len(codec.encode_rendered(text))


def test_an_answer_without_thoughts_counts_none(codec: TextCodec) -> None:
    deltas = assemble(codec, "<thin air", READING)

    assert "".join(delta.text for delta in deltas) == "<thin air"
    assert sum(delta.num_reasoning_tokens for delta in deltas) == 0


def test_stop_strings_are_looked_for_in_the_answer_alone(codec: TextCodec) -> None:
    deltas = assemble(codec, "<think>a STOP b</think>c STOP d", READING, stop=("STOP",))

    assert "".join(delta.reasoning for delta in deltas) == "a STOP b"
    assert "".join(delta.text for delta in deltas) == "c "
    assert deltas[-1].finish_reason is FinishReason.STOP


@pytest.mark.parametrize(
    ("engine_reason", "reason"),
    [
        (FinishReason.STOP, FinishReason.TOOL_CALLS),
        (FinishReason.LENGTH, FinishReason.LENGTH),
    ],
)
def test_an_answer_that_calls_ends_for_that_reason_unless_it_was_cut(
    codec: TextCodec, engine_reason: FinishReason, reason: FinishReason
) -> None:
    reading = Reading(tool_format=HERMES, tool_names=frozenset({"f"}), is_guided=True)

    deltas = assemble(codec, CALL, reading, reason=engine_reason)

    calls = [call for delta in deltas for call in delta.tool_calls]
    assert calls[0].name == "f"
    assert "".join(call.arguments for call in calls) == '{"a": 1}'
    assert "".join(delta.text for delta in deltas) == ""
    assert deltas[-1].finish_reason is reason


def test_a_mark_that_is_a_special_token_is_seen_and_others_are_not(codec: TextCodec) -> None:
    reading = Reading(tool_format=MISTRAL, tool_names=frozenset({"f"}), is_guided=True)
    text = 'Hi<|pad|>[TOOL_CALLS] [{"name": "f", "arguments": {}}]'

    deltas = assemble(codec, text, reading)

    assert "".join(delta.text for delta in deltas) == "Hi"
    assert [call.name for delta in deltas for call in delta.tool_calls if call.id] == ["f"]
    assert deltas[-1].finish_reason is FinishReason.TOOL_CALLS


def test_log_probabilities_wait_for_their_text(codec: TextCodec) -> None:
    text = "<think>Hm</think>Hello STOP"

    deltas = assemble(codec, text, READING, stop=("STOP",))

    told = [one for delta in deltas for one in delta.logprobs or ()]
    assert b"".join(one.token_bytes for one in told).decode().startswith("<think>Hm</think>Hello")
    assert "STOP" not in "".join(one.token for one in told)

"""The pieces of a lesson: no text that fits a piece's shape is longer than its room."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.core.errors import EngineFailedError
from mm_orch.core.guide import Guide, JsonSchemaShape
from mm_orch.models.grammar import GrammarCompiler
from mm_orch.workflows.lesson_pieces import MAX_ATTEMPTS, Piece, fill_pieces
from mm_orch.workflows.lesson_shapes import SHAPES
from tests.tiny_tokenizer import write_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

PIECES = [piece for shapes in SHAPES.values() for piece in shapes.all]
# Of each language the character that takes most bytes, and the quotation mark that JSON escapes.
LONGEST = {"en": "\u03a9", "zh": "\u4e2d"}
# The most that the grammar allows between two parts.
BLANKS = "\n\n" + " " * 20


def write_longest(piece: Piece, char: str) -> str:
    """Return the longest JSON that the piece's shape allows."""
    begin = "A" if piece.language == "en" else "\u4e2d"
    parts = []
    for field in piece.fields:
        end = {"en": "?", "zh": "\uff1f"}[piece.language] if field.is_question else ""
        longest = begin + char * (field.most - 1 - len(end)) + end
        text = json.dumps(longest, ensure_ascii=False)
        value = text
        if field.count is not None:
            entries = f"{BLANKS},{BLANKS}".join([text] * field.count)
            value = f"[{BLANKS}{entries}{BLANKS}]"
        parts.append(f'"{field.name}":{BLANKS}{value}')
    return "{" + BLANKS + f"{BLANKS},{BLANKS}".join(parts) + BLANKS + "}"


@pytest.mark.parametrize("piece", PIECES, ids=lambda one: f"{one.language}-{one.fields[0].name}")
@pytest.mark.parametrize("char", ["longest", '"'])
def test_the_longest_piece_that_the_grammar_allows_fits_its_room(
    piece: Piece, char: str, tmp_path: Path
) -> None:
    write_tokenizer(tmp_path)
    matcher = GrammarCompiler(tmp_path, [2]).compile(Guide(shape=JsonSchemaShape(piece.schema)))
    text = write_longest(piece, LONGEST[piece.language] if char == "longest" else char)
    # A token for each byte: no tokeniser takes more.
    tokens = read_bytes(tmp_path, text)

    assert matcher.try_consume_tokens(tokens) == len(tokens)
    assert matcher.is_accepting()
    assert len(tokens) < piece.max_tokens
    assert piece.read(text) is not None


def read_bytes(directory: Path, text: str) -> list[int]:
    """Return the tokens of single bytes that make up the text."""
    tokens = GrammarCompiler(directory, [2]).read_tokens()
    id_by_byte = {token: number for number, token in enumerate(tokens) if len(token) == 1}
    return [id_by_byte[bytes([one])] for one in text.encode()]


@pytest.mark.parametrize(
    "text",
    [
        '{"question": "", "answer": "Water."}',
        '{"question": "What is a root?", "answer": ""}',
        '{"question": "What is a root?", "answer": " "}',
        '{"question": "     What is it?", "answer": "Water."}',
        '{"question": "What is a root?"}',
        '{"question": "It is a root.", "answer": "Water."}',
        '{"question": "What is a\\nroot?", "answer": "Water."}',
        '{"question": "What is a \\\\ root?", "answer": "Water."}',
        '{"question": "What \\u0069s a root?", "answer": "Water."}',
    ],
)
def test_the_grammar_allows_no_blank_text_and_no_escape_but_a_quotation_mark(
    text: str, tmp_path: Path
) -> None:
    write_tokenizer(tmp_path)
    schema = SHAPES["en"].exercise.schema
    matcher = GrammarCompiler(tmp_path, [2]).compile(Guide(shape=JsonSchemaShape(schema)))
    tokens = read_bytes(tmp_path, text)

    assert matcher.try_consume_tokens(tokens) < len(tokens)


ANY_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.one_of(st.text(), ANY_JSON.map(json.dumps)))
def test_what_is_no_piece_is_not_read(text: str) -> None:
    for piece in PIECES:
        assert piece.read(text) is None


async def test_pieces_are_accepted_in_order_and_those_refused_are_written_again() -> None:
    accepted: list[tuple[int, str]] = []
    written: list[tuple[int, int]] = []

    async def write(number: int, attempt: int) -> str | None:
        written.append((number, attempt))
        return None if attempt == 0 and number == 1 else f"{number}.{attempt}"

    def accept(number: int, piece: str) -> bool:
        if number == 4:
            return False
        accepted.append((number, piece))
        return True

    await fill_pieces(range(6), write, accept)

    assert accepted == [(0, "0.0"), (2, "2.0"), (3, "3.0"), (5, "5.0"), (1, "1.1")]
    assert [one for one in written if one[0] == 4] == [(4, n) for n in range(MAX_ATTEMPTS)]


async def test_the_first_error_ends_the_pieces_beside_it_and_is_raised_itself() -> None:
    ended: list[int] = []

    async def write(number: int, attempt: int) -> str:
        if number == 1:
            raise EngineFailedError(f"broken {attempt}")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)
        return "never"

    with pytest.raises(EngineFailedError, match="broken 0"):
        await fill_pieces(range(3), write, lambda _, __: True)

    assert sorted(ended) == [0, 2]

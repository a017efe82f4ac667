from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from mm_orch.cli.styled import Piece, Tone, flow, to_text, width_of

LINES = st.lists(st.builds(Piece, st.text(max_size=12), st.sampled_from(Tone)), max_size=6).map(
    tuple
)
_SGR = re.compile("\x1b\\[[0-9]+m")


@given(LINES, st.integers(1, 40))
def test_a_line_is_never_wider_than_the_terminal(line: tuple[Piece, ...], width: int) -> None:
    assert len(to_text(line, width)) <= width


@given(LINES, st.integers(1, 40))
def test_colours_change_nothing_of_the_text(line: tuple[Piece, ...], width: int) -> None:
    coloured = to_text(line, width, is_coloured=True)

    assert _SGR.sub("", coloured).rstrip() == to_text(line, width)


@given(LINES)
def test_nothing_that_a_server_says_moves_the_cursor(line: tuple[Piece, ...]) -> None:
    assert all(character.isprintable() for character in to_text(line))


def test_a_cut_line_says_that_it_is_cut() -> None:
    line = (Piece("one", Tone.GOOD), Piece(" two"))

    assert to_text(line, 7) == "one two"
    assert to_text(line, 6) == "one t…"
    assert to_text(line, 6, is_coloured=True) == "\x1b[32mone\x1b[0m t…"


@given(st.lists(st.text("ab", min_size=1, max_size=9), min_size=1, max_size=9), st.integers(12, 60))
def test_facts_flow_into_the_width_and_none_is_lost(texts: list[str], width: int) -> None:
    lines = list(flow(((Piece(text),) for text in texts), width, label="x", indent=3))

    assert [fact for line in lines for fact in to_text(line)[3:].split()] == texts
    assert all(width_of(line) <= width for line in lines)
    assert to_text(lines[0]).startswith("x  ")

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mm_orch.cli.events import read_events

_TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1)


def events(stream: bytes) -> list[str]:
    return list(read_events(stream.splitlines(keepends=True)))


def test_each_blank_line_ends_an_event() -> None:
    assert events(b"data: one\n\ndata: two\n\n") == ["one", "two"]


def test_comments_and_other_fields_are_passed_over() -> None:
    stream = b": keep-alive\n\nevent: message\nid: 7\ndata: one\nretry: 10\n\n: again\n"

    assert events(stream) == ["one"]


def test_data_of_several_lines_is_joined() -> None:
    assert events(b"data: one\ndata: two\n\n") == ["one\ntwo"]


def test_lines_may_end_in_carriage_return_and_newline() -> None:
    assert events(b"data: one\r\n\r\n") == ["one"]


def test_only_one_space_after_the_colon_is_taken_off() -> None:
    assert events(b"data:one\n\ndata:  two\n\n") == ["one", " two"]


def test_an_event_that_is_cut_off_is_dropped() -> None:
    assert events(b"data: one\n\ndata: tw") == ["one"]


@given(st.lists(_TEXT))
def test_any_text_comes_back(texts: list[str]) -> None:
    lines = [line for text in texts for line in (f"data: {text}\n".encode(), b"\n")]

    assert list(read_events(lines)) == texts

"""Calls in a model's text, whole and in pieces, kept to a format or not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.models.tool_formats import GENERIC, TOOL_FORMATS, ToolFormat
from mm_orch.orchestration.tool_calls import ToolCallReader

HERMES, MISTRAL, TIGHT, LLAMA = TOOL_FORMATS
NAMES = {"find", "now"}
CITY = '{"city": "Pa}r\\"is", "near": [{}, "]"]}'


def write(form: ToolFormat, *calls: tuple[str, str]) -> str:
    """Write calls as the model does that is kept to its format."""
    written = [f"{form.write_head(name)}{arguments}}}{form.end}" for name, arguments in calls]
    return form.opening + form.separator.join(written) + form.closing


def read(
    *pieces: str, form: ToolFormat = HERMES, is_guided: bool = False, is_single: bool = False
) -> tuple[str, list[tuple[str, str]]]:
    """Return the text, and name and arguments of each call, as a client puts them together."""
    reader = ToolCallReader(form, NAMES, is_guided=is_guided, is_single=is_single)
    founds = [*(reader.push(piece) for piece in pieces), reader.flush()]
    calls: list[tuple[str, str]] = []
    for delta in (call for found in founds for call in found.calls):
        if delta.id:
            assert delta.index == len(calls)
            calls.append((delta.name, ""))
        name, arguments = calls[delta.index]
        calls[delta.index] = (name, arguments + delta.arguments)
    assert reader.num_calls == len(calls)
    return "".join(found.text for found in founds), calls


def cut(text: str, size: int) -> list[str]:
    return [text[begin : begin + size] for begin in range(0, len(text), size)]


@pytest.mark.parametrize("form", [HERMES, MISTRAL, TIGHT, LLAMA, GENERIC], ids=lambda f: f.name)
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("is_guided", [True, False])
def test_calls_are_found_in_every_format(
    form: ToolFormat,
    size: int,
    is_guided: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    calls = [("find", CITY), ("now", "{}")][: 1 if form.is_single else 2]

    text, found = read(*cut(write(form, *calls), size), form=form, is_guided=is_guided)

    assert text == ""
    assert [(name, json.loads(arguments)) for name, arguments in found] == [
        (name, json.loads(arguments)) for name, arguments in calls
    ]


@pytest.mark.parametrize("form", [HERMES, MISTRAL], ids=lambda form: form.name)
def test_text_before_calls_is_text_without_the_blanks_between(form: ToolFormat) -> None:
    text, calls = read(*cut(f"Let me see.\n\n{write(form, ('now', '{}'))}", 1), form=form)

    assert (text, calls) == ("Let me see.", [("now", "{}")])


@pytest.mark.parametrize("form", [HERMES, MISTRAL, LLAMA], ids=lambda form: form.name)
@pytest.mark.parametrize(
    "text", ["Hello.\n", "a < b [c] {d}", "", "\n\n", '[1, 2] and {"a": 1}', "<tool_cal"]
)
def test_text_without_calls_stays_as_it_is(form: ToolFormat, text: str) -> None:
    assert read(*cut(text, 1), form=form) == (text, [])


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "nope", "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "find", "arguments": "Paris"}\n</tool_call>',
        '<tool_call>\n{"name": "find"}\n</tool_call>',
        '<tool_call>\n{"name": "find", "arguments": {}',
        "<tool_call>\n{not json}\n</tool_call>",
        "<tool_call> is how I call",
        "<tool_call>",
    ],
)
def test_what_only_looks_like_a_call_is_text(text: str) -> None:
    found, calls = read(*cut(text, 1))

    assert calls == []
    # Nothing but blanks is lost.
    assert found.replace("\n", "").replace(" ", "") == text.replace("\n", "").replace(" ", "")


def test_a_call_that_nobody_guided_may_have_its_own_order_and_layout() -> None:
    text = '<tool_call>{ "arguments":{"a":1},\n "name" : "find" }</tool_call>'

    assert read(*cut(text, 3)) == ("", [("find", '{"a": 1}')])


def test_a_right_call_after_a_wrong_one_is_found() -> None:
    text, calls = read(*cut(f"<tool_call>what{write(HERMES, ('now', '{}'))}", 1))

    assert calls == [("now", "{}")]
    assert text.startswith("<tool_call>what")


def test_a_bare_object_that_is_no_call_is_the_answer() -> None:
    text = '{"name": "Bob", "parameters": {"a": 1}} and more'

    assert read(*cut(text, 2), form=LLAMA) == (text, [])


@pytest.mark.parametrize("is_guided", [True, False])
def test_of_several_calls_only_the_first_counts_where_one_was_asked_for(
    is_guided: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    text = write(HERMES, ("now", "{}"), ("find", CITY))

    assert read(*cut(text, 2), is_guided=is_guided, is_single=True)[1] == [("now", "{}")]


def test_guided_arguments_are_passed_on_as_they_come() -> None:
    reader = ToolCallReader(HERMES, NAMES, is_guided=True, is_single=False)

    told = [reader.push(piece).calls for piece in cut(write(HERMES, ("find", CITY)), 1)]

    first, *others = [call for calls in told for call in calls]
    assert (first.name, first.arguments) == ("find", "")
    assert first.id.startswith("call_")
    assert [one.arguments for one in others] == list(CITY)


def test_a_guided_call_that_is_cut_tells_what_there_is_of_it() -> None:
    whole = write(HERMES, ("find", CITY))

    assert read(whole[:25], is_guided=True) == ("", [])
    assert read(whole[: whole.index("near")], is_guided=True) == (
        "",
        [("find", CITY[: CITY.index("near")])],
    )


PIECES = st.sampled_from(
    [*'{}[]",:\\', "<tool_call>", "</tool_call>", "\n", " ", "a", '"name"', '"find"']
)


@given(st.lists(PIECES, max_size=30), st.sampled_from([HERMES, MISTRAL, LLAMA]))
def test_whatever_is_said_in_pieces_it_is_the_same_as_at_once(
    pieces: list[str], form: ToolFormat
) -> None:
    assert read(*pieces, form=form) == read("".join(pieces), form=form)

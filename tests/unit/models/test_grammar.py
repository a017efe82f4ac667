"""Which texts a guide allows, token by token, where marks have tokens and where they have none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mm_orch.core.errors import InvalidValueError, UnsupportedError
from mm_orch.core.guide import (
    Guide,
    JsonObjectShape,
    JsonSchemaShape,
    Tag,
    TagsShape,
    ThoughtMarks,
)
from mm_orch.models.grammar import GrammarCompiler
from mm_orch.models.text import TextCodec
from tests.tiny_models import EOS_TOKEN_ID
from tests.tiny_tokenizer import write_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

PERSON = {
    "type": "object",
    "properties": {"name": {"$ref": "#/$defs/name"}, "age": {"type": "integer", "maximum": 150}},
    "required": ["name", "age"],
    "additionalProperties": False,
    "$defs": {"name": {"type": "string", "maxLength": 8}},
}
THINK = ThoughtMarks(begin="<think>", end="</think>")
MARKS = ("<tool_call>", "</tool_call>", "<think>", "</think>")


class Judge:
    """Says how far a text is allowed, and whether it may end there."""

    def __init__(self, directory: Path) -> None:
        self.codec = TextCodec.from_directory(directory)
        self.compiler = GrammarCompiler(directory, (EOS_TOKEN_ID,))

    def read(self, guide: Guide, text: str) -> tuple[str, bool]:
        matcher = self.compiler.compile(guide)
        token_ids = self.codec.encode_rendered(text)
        for place, token_id in enumerate(token_ids):
            if not _allowed(matcher.compute_bitmask())[token_id]:
                allowed = b"".join(map(self.codec.token_bytes, token_ids[:place]))
                return allowed.decode(), False
            matcher.consume_token(token_id)
        return text, bool(_allowed(matcher.compute_bitmask())[EOS_TOKEN_ID])


def _allowed(mask: bytes) -> Any:
    return np.unpackbits(np.frombuffer(mask, dtype=np.uint8), bitorder="little")


@pytest.fixture(scope="module", params=["spelled", "tokens"])
def judge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """One judge whose marks are plain text, and one with a token for each."""
    directory = tmp_path_factory.mktemp("tokenizer")
    if request.param == "spelled":
        return Judge(write_tokenizer(directory))
    return Judge(write_tokenizer(directory, marks=MARKS, special_marks=("[TOOL_CALLS]",)))


@pytest.mark.parametrize(
    ("text", "is_whole"),
    [
        ('{"name": "Bob", "age": 30}', True),
        ('{"name":"Bob","age":30}', True),
        ('{\n  "name": "Bob",\n  "age": 30\n}', True),
        ('{"name": "Bob", "age": 3', False),
        ('{"name": "Bob"', False),
    ],
)
def test_json_under_a_schema_is_allowed_in_any_layout(
    judge: Judge,
    text: str,
    is_whole: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    guide = Guide(shape=JsonSchemaShape(json.dumps(PERSON)))

    assert judge.read(guide, text) == (text, is_whole)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("Bob is 30", ""),
        ('{"age": 30', '{"'),
        ('{"name": 5', '{"name": '),
        ('{"name": "Bob", "age": 1000', '{"name": "Bob", "age": 1'),
        ('{"name": "Bob", "age": 30} !', '{"name": "Bob", "age": 30}'),
    ],
)
def test_what_a_schema_forbids_is_stopped_where_it_goes_wrong(
    judge: Judge, text: str, allowed: str
) -> None:
    stopped, may_end = judge.read(Guide(shape=JsonSchemaShape(json.dumps(PERSON))), text)

    assert text.startswith(stopped)
    assert stopped.startswith(allowed)
    assert not may_end


def test_blanks_cannot_go_on_for_ever(judge: Judge) -> None:
    guide = Guide(shape=JsonObjectShape())

    stopped, _ = judge.read(guide, "{" + "\n" * 50)

    assert len(stopped) < 5


@pytest.mark.parametrize(
    ("text", "is_whole"),
    [("{}", True), ('{"a": [1, {"b": null}]}', True), ("[]", False), ('"text"', False)],
)
def test_any_object_is_an_object(
    judge: Judge,
    text: str,
    is_whole: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    assert judge.read(Guide(shape=JsonObjectShape()), text)[1] == is_whole


def tag(name: str, schema: object) -> Tag:
    return Tag(
        begin=f'<tool_call>\n{{"name": "{name}", "arguments": ',
        schema=json.dumps(schema),
        end="}\n</tool_call>",
    )


def tags(**how: Any) -> Guide:
    shape = TagsShape(
        tags=(tag("find", PERSON), tag("now", {"type": "object", "additionalProperties": False})),
        trigger="<tool_call>",
        separator="\n",
        **how,
    )
    return Guide(shape=shape)


FIND = '<tool_call>\n{"name": "find", "arguments": {"name": "Bob", "age": 3}}\n</tool_call>'
NOW = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'


@pytest.mark.parametrize(
    ("text", "is_whole"),
    [
        ("Hello, no call < here", True),
        (FIND, True),
        (f"Let me see.\n{NOW}", True),
        (f"{FIND}\n{NOW}", True),
        (FIND.partition('b", ')[0], False),
    ],
)
def test_free_text_may_turn_into_calls(
    judge: Judge,
    text: str,
    is_whole: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    assert judge.read(tags(is_required=False), text) == (text, is_whole)


@pytest.mark.parametrize(
    "text",
    [
        "Use <tool_call> like this",
        NOW.replace("now", "nope"),
        NOW.replace("{}", '{"x": 1}'),
        f"{NOW} and more",
    ],
)
def test_after_the_mark_nothing_but_a_right_call_is_allowed(judge: Judge, text: str) -> None:
    assert judge.read(tags(is_required=False), text)[0] != text


def test_a_call_can_be_made_a_must(judge: Judge) -> None:
    assert judge.read(tags(), "Hello") == ("", False)
    assert judge.read(tags(), f"{FIND}\n{NOW}") == (f"{FIND}\n{NOW}", True)


def test_one_call_can_be_made_the_most(judge: Judge) -> None:
    stopped, _ = judge.read(tags(is_single=True), f"{FIND}\n{NOW}")

    assert stopped == FIND


def test_the_answer_beside_calls_can_have_a_shape_of_its_own(judge: Judge) -> None:
    guide = tags(is_required=False, otherwise=JsonObjectShape())

    assert judge.read(guide, '{"a": 1}')[1]
    assert judge.read(guide, NOW)[1]
    assert judge.read(guide, "Hello") == ("", False)


def test_calls_can_stand_in_a_list_behind_one_mark(judge: Judge) -> None:
    call = Tag(begin='{"name": "f", "arguments": ', schema='{"type": "object"}', end="}")
    shape = TagsShape(
        tags=(call,),
        trigger="[TOOL_CALLS]",
        opening="[TOOL_CALLS] [",
        separator=", ",
        closing="]",
        is_required=False,
    )
    one = '{"name": "f", "arguments": {}}'

    assert judge.read(Guide(shape=shape), f"[TOOL_CALLS] [{one}, {one}]")[1]
    assert judge.read(Guide(shape=shape), f"[TOOL_CALLS] [{one}")[1] is False
    assert judge.read(Guide(shape=shape), "Hello")[1]


@pytest.mark.parametrize(
    ("text", "is_whole"),
    [
        ('{"a": 1}', True),
        ('<think>Hm, {"x": 1} perhaps.</think>\n\n{"a": 1}', True),
        ("<think>Hm", False),
    ],
)
def test_thoughts_may_come_before_the_shape(
    judge: Judge,
    text: str,
    is_whole: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    guide = Guide(shape=JsonObjectShape(), thoughts=THINK)

    assert judge.read(guide, text) == (text, is_whole)


def test_thoughts_that_the_prompt_opened_come_first(judge: Judge) -> None:
    guide = Guide(shape=JsonObjectShape(), thoughts=THINK, is_thinking=True)

    assert judge.read(guide, 'Hm.</think>{"a": 1}')[1]
    assert not judge.read(guide, '{"a": 1}')[1]
    assert judge.read(guide, "Hm.</think>Hello")[0] == "Hm.</think>"


def test_the_callers_own_settings_of_the_library_are_not_taken(judge: Judge) -> None:
    schema = {"not": {}, "x-guidance": {"lenient": True}}

    with pytest.raises(InvalidValueError, match="not"):
        judge.compiler.compile(Guide(shape=JsonSchemaShape(json.dumps(schema))))


def test_a_lenient_tag_passes_over_what_the_library_lacks(judge: Judge) -> None:
    schema = json.dumps({"type": "object", "properties": {"a": {"not": {}}}})
    shape = TagsShape(tags=(Tag(begin="<", schema=schema, end=">", is_lenient=True),))

    assert judge.read(Guide(shape=shape), "<{}>")[1]


def test_a_tokeniser_that_does_not_fit_is_said_to(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")

    with pytest.raises(UnsupportedError, match=r"tokenizer\.json"):
        GrammarCompiler(tmp_path, ()).compile(Guide(shape=JsonObjectShape()))

"""What of a request shapes its answer, and which requests are refused for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from mm_orch.core.errors import InvalidValueError, UnsupportedError
from mm_orch.core.generation import (
    ChatPrompt,
    GenerationOptions,
    GenerationRequest,
    Message,
    TextPrompt,
)
from mm_orch.core.guide import Guide, JsonObjectShape, JsonSchemaShape, TagsShape
from mm_orch.core.tools import Tool, ToolChoice, ToolUse
from mm_orch.models.chat_template import ChatTemplate
from mm_orch.models.text import TextCodec
from mm_orch.models.thought_marks import find_thought_marks
from mm_orch.models.tool_formats import find_tool_format
from mm_orch.optimization.engines.contract import EngineFacts
from mm_orch.orchestration.model_text import ModelText
from mm_orch.orchestration.preparation import fit_to_engine, prepare
from tests.tiny_models import EOS_TOKEN_ID, VOCAB_SIZE
from tests.tiny_tokenizer import write_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    MakeText = Callable[[str], ModelText]

PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
THINKING = PLAIN + "<think>\n"
BAD = "not-this"
NOW, FIND = Tool(name="now"), Tool(name="find", parameters={"properties": {BAD: {}}})
STRICT = replace(FIND, is_strict=True)
FACTS = EngineFacts(
    engine="dull",
    dtype="fp32",
    device="cpu",
    context_length=99,
    kv_block_tokens=1,
    kv_block_bytes=1,
    num_kv_blocks=1,
)


def find_reason(guide: Guide) -> str:
    """Refuse what the tests mark as bad, as the library would."""
    shape = guide.shape
    schemas = [shape.schema] if isinstance(shape, JsonSchemaShape) else []
    schemas += [tag.schema for tag in shape.tags] if isinstance(shape, TagsShape) else []
    return "it is bad" if any(BAD in schema for schema in schemas) else ""


@pytest.fixture
def make_text(tmp_path: Path) -> MakeText:
    codec = TextCodec.from_directory(write_tokenizer(tmp_path))

    def make(template: str) -> ModelText:
        return ModelText(
            name="m",
            context_length=512,
            vocab_size=VOCAB_SIZE,
            eos_token_ids=(EOS_TOKEN_ID,),
            codec=codec,
            template=ChatTemplate(template, {}),
            tool_format=find_tool_format(template),
            thought_marks=find_thought_marks(template + "</think>", codec),
        )

    return make


def ask(*tools: Tool, options: dict[str, Any] | None = None, **use: Any) -> GenerationRequest:
    return GenerationRequest(
        request_id="r",
        prompt=ChatPrompt(
            (Message(role="user", content="Hi"),),
            ToolUse(tools=tools, **use) if tools else None,
        ),
        options=GenerationOptions(**(options or {})),
        guide_param="response_format",
    )


def test_free_text_is_not_guided(make_text: MakeText) -> None:
    prepared = prepare(ask(), make_text(PLAIN), find_reason)

    assert prepared.params[0].guide is None


def test_a_response_format_guides_every_choice(make_text: MakeText) -> None:
    shape = JsonSchemaShape('{"type": "object"}')

    prepared = prepare(
        ask(options={"guide": shape, "num_choices": 2}), make_text(PLAIN), find_reason
    )

    assert [one.guide for one in prepared.params] == [Guide(shape=shape)] * 2


def test_thoughts_stand_before_the_shape_and_the_prompt_may_have_opened_them(
    make_text: MakeText,
) -> None:
    request = ask(options={"guide": JsonObjectShape()})

    prepared = prepare(request, make_text(THINKING), find_reason)

    [params] = prepared.params
    assert params.guide is not None
    assert params.guide.thoughts is not None
    assert params.guide.is_thinking
    assert prepared.reading.is_thinking
    assert not prepare(request, make_text(PLAIN), find_reason).reading.is_thinking


def test_tools_are_told_of_and_guide_the_answer(make_text: MakeText) -> None:
    text = make_text(PLAIN)

    prepared = prepare(ask(NOW), text, find_reason)

    [params] = prepared.params
    assert params.guide is not None
    assert isinstance(params.guide.shape, TagsShape)
    assert prepared.reading.is_guided
    assert prepared.reading.tool_names == {"now"}
    assert '"now"' in "".join(map(text.codec.token_text, prepared.token_ids))


def test_tools_that_must_not_be_called_are_not_even_told_of(make_text: MakeText) -> None:
    text = make_text(PLAIN)

    prepared = prepare(ask(NOW, choice=ToolChoice.NONE), text, find_reason)

    assert prepared.params[0].guide is None
    assert prepared.reading.tool_format is None
    assert prepared.token_ids == prepare(ask(), text, find_reason).token_ids


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (
            ask(options={"guide": JsonSchemaShape(json.dumps({"const": BAD}))}),
            "response_format",
        ),
        (ask(NOW, FIND, choice=ToolChoice.REQUIRED), "tools.1.parameters"),
        (ask(NOW, STRICT), "tools.1.parameters"),
    ],
)
def test_a_schema_that_cannot_be_kept_to_is_refused_by_name(
    make_text: MakeText, request_: GenerationRequest, param: str
) -> None:
    with pytest.raises(InvalidValueError, match="it is bad") as caught:
        prepare(request_, make_text(PLAIN), find_reason)

    assert caught.value.param == param


def test_a_tool_that_may_be_called_is_read_where_it_cannot_be_guided(make_text: MakeText) -> None:
    prepared = prepare(ask(FIND), make_text(PLAIN), find_reason)

    assert prepared.params[0].guide is None
    assert prepared.reading.tool_format is not None
    assert not prepared.reading.is_guided


@pytest.mark.parametrize("contrary", [{"ignore_eos": True}, {"min_tokens": 3}])
def test_a_shape_ends_where_it_ends(make_text: MakeText, contrary: dict[str, Any]) -> None:
    text = make_text(PLAIN)
    with pytest.raises(InvalidValueError, match="ends where") as caught:
        prepare(ask(options={"guide": JsonObjectShape(), **contrary}), text, find_reason)

    assert caught.value.param in contrary
    assert prepare(ask(NOW, options=contrary), text, find_reason).params[0].guide is None


def test_raw_prompts_are_not_sorted(make_text: MakeText) -> None:
    request = replace(ask(), prompt=TextPrompt("Hi<think>"))

    assert prepare(request, make_text(THINKING), find_reason).reading.marks == ()


def test_an_engine_that_cannot_guide_gets_what_need_not_be(make_text: MakeText) -> None:
    text, dull = make_text(PLAIN), replace(FACTS, guides="none")
    may, must = ask(NOW), ask(NOW, choice=ToolChoice.REQUIRED)
    prepared_may, prepared_must = (prepare(one, text, find_reason) for one in (may, must))

    fitted = fit_to_engine(may, prepared_may, dull)

    assert fitted.params[0].guide is None
    assert not fitted.reading.is_guided
    assert fit_to_engine(must, prepared_must, FACTS) is prepared_must
    with pytest.raises(UnsupportedError, match="dull") as caught:
        fit_to_engine(must, prepared_must, dull)
    assert caught.value.param == "tool_choice"


@pytest.mark.parametrize(
    ("is_welcome", "asked", "unsupported", "given"),
    [
        (True, None, (), 0),
        (True, 3, (), 3),
        (True, None, ("num_logprobs",), None),
        (False, None, (), None),
        (False, 3, (), 3),
    ],
)
def test_log_probabilities_that_are_welcome_are_told_where_the_engine_can(
    make_text: MakeText,
    asked: int | None,
    unsupported: tuple[str, ...],
    given: int | None,
    *,
    is_welcome: bool,
) -> None:
    request = replace(ask(options={"num_logprobs": asked}), tells_logprobs=is_welcome)
    prepared = prepare(request, make_text(PLAIN), find_reason)

    fitted = fit_to_engine(request, prepared, replace(FACTS, unsupported=unsupported))

    assert [one.num_logprobs for one in fitted.params] == [given]

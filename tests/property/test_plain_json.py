"""Whatever fits the grammar of a schema is valid under it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import jsonschema_rs
import llguidance
from hypothesis import assume, given, reject
from hypothesis import strategies as st

from mm_orch.core.errors import InvalidValueError
from mm_orch.models.grammar import make_matcher, write_grammar
from mm_orch.models.guide_check_child import _Bytes
from mm_orch.models.plain_json import write_range
from tests.plain_schemas import find_grammar, guide_of, plain_schemas, to_pattern

if TYPE_CHECKING:
    from hypothesis.strategies import DataObject


def draw_text(data: DataObject, schema: dict[str, object]) -> str:
    grammar = find_grammar(schema)
    assume(grammar is not None)
    assert grammar is not None
    # Hypothesis takes minutes to look at all of Unicode.
    pattern = re.sub(r"\\u0080-.*?\\U0010FFFF", "é€😀", to_pattern(grammar))
    return data.draw(st.from_regex(pattern, fullmatch=True))


@given(st.data(), plain_schemas())
def test_what_fits_the_grammar_is_valid(data: DataObject, schema: dict[str, object]) -> None:
    text = draw_text(data, schema)

    jsonschema_rs.validate(schema, json.loads(text))


@given(st.data(), plain_schemas())
def test_an_answer_may_go_on_under_the_grammar_of_the_step_backends(
    data: DataObject, schema: dict[str, object]
) -> None:
    text = draw_text(data, schema)
    tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Bytes()))
    try:
        matcher = make_matcher(tokenizer, write_grammar(guide_of(schema), lambda _: None))
    except InvalidValueError:
        # Such a request is refused before any engine sees it.
        reject()

    assert matcher.try_consume_tokens(list(text.encode())) == len(text.encode()), text


@given(st.integers(), st.integers(), st.integers())
def test_the_numbers_of_a_range_fit_and_no_others(one: int, other: int, number: int) -> None:
    least, most = sorted((one, other))
    body = " | ".join(write_range(least, most))
    pattern = re.compile(to_pattern(f"root ::= {body}"))

    for near in (number, least - 1, least, most, most + 1, (least + most) // 2, 0):
        assert bool(pattern.fullmatch(str(near))) == (least <= near <= most)


def test_small_ranges_are_exact() -> None:
    for least in range(-25, 120, 7):
        for most in range(least, 130, 3):
            pattern = re.compile(to_pattern(f"root ::= {' | '.join(write_range(least, most))}"))
            fitting = [n for n in range(-140, 1400) if pattern.fullmatch(str(n))]
            assert fitting == list(range(least, most + 1))

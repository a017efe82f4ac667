"""The queries labelled for routing: whole, balanced, and divided as their rule says."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import product
from typing import get_args

import pytest

from benchmarks.routing.labelled import (
    Label,
    LabelledQuery,
    Language,
    Part,
    is_held_out,
    load_part,
    parse_part,
)
from benchmarks.unique_lines import normalised

PARTS: tuple[Part, ...] = ("train", "held_out")
STRATA = list(product(get_args(Label), get_args(Language)))
FIXED = "What is machine learning?"
HAN = re.compile("[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def queries_by_part() -> dict[Part, list[LabelledQuery]]:
    return {part: load_part(part) for part in PARTS}


@pytest.fixture(scope="module")
def queries(queries_by_part: dict[Part, list[LabelledQuery]]) -> list[LabelledQuery]:
    return [query for part in PARTS for query in queries_by_part[part]]


def a_line(**changes: object) -> bytes:
    query = {
        "query": FIXED,
        "language": "en",
        "context": {"has_documents": False, "has_session": False},
        "label": "chat_generate",
    }
    return json.dumps(query | changes).encode() + b"\n"


def test_both_parts_are_large_enough(queries_by_part: dict[Part, list[LabelledQuery]]) -> None:
    assert len(queries_by_part["train"]) >= 560
    assert len(queries_by_part["held_out"]) >= 320


@pytest.mark.parametrize("label", get_args(Label))
def test_no_class_is_rare_or_frequent(label: Label, queries: list[LabelledQuery]) -> None:
    assert 150 <= sum(query.label == label for query in queries) <= 220


def test_a_third_of_the_queries_is_chinese(queries: list[LabelledQuery]) -> None:
    share = sum(query.language == "zh" for query in queries) / len(queries)

    assert 0.3 < share < 0.4


def test_a_query_is_written_in_its_language(queries: list[LabelledQuery]) -> None:
    wrong = [one.query for one in queries if bool(HAN.search(one.query)) != (one.language == "zh")]

    assert wrong == []


def test_no_query_stands_twice_in_the_parts_together(queries: list[LabelledQuery]) -> None:
    counts = Counter(normalised(query.query) for query in queries)

    assert [text for text, count in counts.items() if count > 1] == []


@pytest.mark.parametrize(("label", "language"), STRATA)
def test_a_class_in_a_language_is_divided_like_the_whole(
    label: Label, language: Language, queries: list[LabelledQuery]
) -> None:
    texts = [one.query for one in queries if (one.label, one.language) == (label, language)]
    num_held_out = sum(is_held_out(text) for text in texts)

    assert len(texts) >= 60
    assert 0.3 < num_held_out / len(texts) < 0.42


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("label", get_args(Label))
def test_no_flag_gives_a_class_away(
    label: Label, part: Part, queries_by_part: dict[Part, list[LabelledQuery]]
) -> None:
    contexts = [query.context for query in queries_by_part[part] if query.label == label]

    assert 0.1 < sum(context.has_documents for context in contexts) / len(contexts) < 0.8
    assert 0.1 < sum(context.has_session for context in contexts) / len(contexts) < 0.8


def test_the_fixed_example_is_a_chat_and_for_development(
    queries_by_part: dict[Part, list[LabelledQuery]],
) -> None:
    assert [one.label for one in queries_by_part["train"] if one.query == FIXED] == [
        "chat_generate"
    ]


def test_a_good_line_is_read_as_it_stands() -> None:
    [query] = parse_part(a_line(context={"has_documents": True, "has_session": False}), "train")

    assert (query.query, query.language, query.label) == (FIXED, "en", "chat_generate")
    assert (query.context.has_documents, query.context.has_session) == (True, False)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (b"{}\n", "train.jsonl, line 1: .*missing required field"),
        (a_line() + b"\n", "train.jsonl, line 2: "),
        (a_line(label="chat"), "Invalid enum value 'chat'"),
        (a_line(language="fr"), "Invalid enum value 'fr'"),
        (a_line(context={"has_documents": False}), "missing required field `has_session`"),
        (a_line(answer="none"), "unknown field `answer`"),
        (a_line(query=" ?\n"), "empty or punctuation alone"),
        (a_line() + a_line(query="what is MACHINE learning"), "line 2: .* is the query of line 1"),
    ],
)
def test_a_faulty_line_is_named(lines: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_part(lines, "train")


def test_a_query_in_the_wrong_part_is_refused() -> None:
    with pytest.raises(ValueError, match="belongs to the other part"):
        parse_part(a_line(), "held_out")


def test_case_punctuation_and_spaces_make_no_other_query() -> None:
    assert normalised("  What's NEW,\tin C++?\n") == normalised("whats new in c++")
    assert normalised("你好、世界。") == normalised("你好 世界")
    assert normalised("What's new in C?") != normalised("What's new in C++?")


def test_there_is_more_to_train_with_in_every_class_and_language() -> None:
    counts = Counter((one.label, one.language) for one in load_part("more_train"))

    assert set(counts) == set(STRATA)
    assert min(counts.values()) > 300

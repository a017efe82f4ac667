"""Questions in parts: by rules, and what of a model's parts is of use."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.workflows.decomposing import choose_useful, split_by_rules
from mm_orch.workflows.search_prompts import MAX_PARTS, MIN_PARTS

HIGHER = "Is Mount Everest higher than K2?"


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        (HIGHER, ["How high is Mount Everest?", "How high is K2?"]),
        ("Is iron much heavier than gold?", ["How heavy is iron?", "How heavy is gold?"]),
        (
            "Which is longer, the Nile or the Amazon?",
            ["How long is the Nile?", "How long is the Amazon?"],
        ),
        (
            "Which river is longer: the Danube, or the Rhine?",
            ["How long is the Danube?", "How long is the Rhine?"],
        ),
        (
            "Which has more moons, Mars or Jupiter?",
            ["How many moons does Mars have?", "How many moons does Jupiter have?"],
        ),
        (
            "Who was born earlier, Ada Lovelace or Alan Turing?",
            ["When was Ada Lovelace born?", "When was Alan Turing born?"],
        ),
        ("Compare Jupiter with Saturn.", ["What is Jupiter?", "What is Saturn?"]),
        (
            "What is the difference between gold and iron?",
            ["What is gold?", "What is iron?"],
        ),
        ("How do Python and Rust differ?", ["What is Python?", "What is Rust?"]),
        ("How does gold differ from iron?", ["What is gold?", "What is iron?"]),
        (
            "Who built the Eiffel Tower and when did it open?",
            ["Who built the Eiffel Tower?", "When did the Eiffel Tower open?"],
        ),
        (
            "When was Marie Curie born, and what are her discoveries?",
            ["When was Marie Curie born?", "What are Marie Curie's discoveries?"],
        ),
        (
            "Who wrote it and when was it printed?",
            ["Who wrote it?", "When was it printed?"],
        ),
        (
            "What are the heights of Everest, K2 and Mont Blanc?",
            [
                "What are the heights of Everest?",
                "What are the heights of K2?",
                "What are the heights of Mont Blanc?",
            ],
        ),
        (
            "What is the combined population of France and Spain?",
            ["What is the population of France?", "What is the population of Spain?"],
        ),
        (
            "Who was Ada Lovelace? When was Alan Turing born?",
            ["Who was Ada Lovelace?", "When was Alan Turing born?"],
        ),
        (
            "\u957f\u6c5f\u548c\u9ec4\u6cb3\u54ea\u4e2a\u66f4\u957f\uff1f",
            ["\u957f\u6c5f\u6709\u591a\u957f\uff1f", "\u9ec4\u6cb3\u6709\u591a\u957f\uff1f"],
        ),
        ("What is the capital of Bosnia and Herzegovina?", []),
        ("What is gold?", []),
        ("Rock and roll?", []),
        ("Compare and contrast.", []),
        ("Is it bigger than a bread box", ["How big is it?", "How big is a bread box?"]),
        ("", []),
        ("? ? ?", []),
    ],
)
def test_a_question_is_taken_apart_where_a_rule_knows_how_it_is_made(
    question: str, parts: list[str]
) -> None:
    assert list(split_by_rules(question)) == parts


@given(st.text(max_size=500))
def test_a_question_has_no_part_or_two_to_four(question: str) -> None:
    parts = split_by_rules(question)

    assert not parts or MIN_PARTS <= len(parts) <= MAX_PARTS
    assert len(set(parts)) == len(parts)


@pytest.mark.parametrize(
    "text",
    [
        "is a higher " * 900,
        "which is " + "," * 9000,
        "compare " * 1200,
        "A and " * 1600,
        "和" * 9000,
    ],
)
def test_a_long_text_takes_no_time(text: str) -> None:
    begin_s = time.process_time()

    split_by_rules(text)
    split_by_rules(text[:400])

    assert time.process_time() - begin_s < 0.5


@pytest.mark.parametrize(
    ("parts", "useful"),
    [
        (
            ["How high is Mount Everest?", "How high is K2?"],
            ["How high is Mount Everest?", "How high is K2?"],
        ),
        # Without what has nothing to do with it, what is there already, and what is the whole.
        (
            [
                "What is the height of Mount Everest?",
                "What is love?",
                HIGHER,
                " height of K2? ",
                "",
            ],
            ["What is the height of Mount Everest?", "height of K2?"],
        ),
        (["Is Mount Everest higher?", "Is K2 higher?"], []),
        (["How high is Mount Everest?", "How high is it compared with others?"], []),
        (["How high is Mount Everest?"], []),
        (["How high is K2?", "How HIGH is K2"], []),
        (["What is the question?", "What is the answer?"], []),
        # Half of what is asked about was left out.
        (["Is it higher?", "How much higher?"], []),
        (["How high is K2?", "Mount Everest " * 20], []),
        ([], []),
    ],
)
def test_of_a_models_parts_those_count_that_ask_for_parts_of_the_question(
    parts: list[str], useful: list[str]
) -> None:
    assert list(choose_useful(HIGHER, parts)) == useful


def test_no_more_than_four_parts_are_answered() -> None:
    parts = [f"How high is Everest {number}?" for number in range(9)]

    assert len(choose_useful("How high is Everest in Nepal?", parts)) == MAX_PARTS

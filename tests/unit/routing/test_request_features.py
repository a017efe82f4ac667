"""What a request says of how hard it is, without any model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.core.generation import (
    ChatPrompt,
    GenerationOptions,
    GenerationRequest,
    Message,
    TextPrompt,
    TokensPrompt,
)
from mm_orch.core.guide import JsonObjectShape
from mm_orch.core.tools import ToolUse
from mm_orch.routing.request_features import EASIEST, RequestFeatures, read_features


def read(*messages: str, **options: Any) -> RequestFeatures:
    turns = tuple(Message(role="user", content=text) for text in messages)
    return read_features(
        GenerationRequest(
            request_id="r", prompt=ChatPrompt(turns), options=GenerationOptions(**options)
        )
    )


@pytest.mark.parametrize(
    ("text", "signs"),
    [
        ("Hello!", ()),
        ("What is machine learning?", ()),
        ("Who wrote Faust?", ()),
        ("Fix this:\n```\nx = [1\n```", ("code",)),
        ("Write a Python script.", ("code",)),
        ("Prove the theorem.", ("maths",)),
        ("What is 17 * 23?", ("maths",)),
        ("Compare tea and coffee.", ("reasoning",)),
        ("Why is the sky blue?", ("reasoning",)),
        ("Write an essay on tea.", ("a long answer",)),
        ("法国的首都是哪里", ("a language other than English",)),
        ("比较一下茶和咖啡", ("reasoning", "a language other than English")),
        ("Привет, как дела?", ("a language other than English",)),
        ("The letter π is Greek.", ()),
        ("word " * 1000, ("reading a long text",)),
    ],
)
def test_signs_are_found_in_the_words(text: str, signs: tuple[str, ...]) -> None:
    assert read(text).signs == signs


def test_what_is_asked_for_beside_the_words_counts_too() -> None:
    tools = GenerationRequest(
        request_id="r",
        prompt=ChatPrompt((Message(role="user", content="Hi"),), ToolUse(tools=())),
    )

    assert read("Hi", max_tokens=4096).signs == ("a long answer",)
    assert read("Hi", guide=JsonObjectShape()).signs == ("an answer of a given shape",)
    assert read_features(tools).signs == ("tools",)


def test_different_conditions_are_counted_up_to_four() -> None:
    assert read("It must be short. It must be kind.").num_constraints == 1
    assert read("It must be short, without jokes.").num_constraints == 2
    every = "must should exactly without only never always"
    assert read(every).num_constraints == 4


@pytest.mark.parametrize(
    ("easier", "harder"),
    [
        ("Hi", "Hi, in Python."),
        ("Sort this list.", "Sort this list: it must be stable and without recursion."),
        ("Write Python.", "Write Python and prove step by step why it works."),
    ],
)
def test_more_signs_are_harder(easier: str, harder: str) -> None:
    assert EASIEST <= read(easier).difficulty < read(harder).difficulty <= 1


def test_the_last_message_of_the_user_is_what_is_asked() -> None:
    assert read("Write Python.", "Thanks!").signs == ()
    assert read("Write Python.", "Thanks!").num_prompt_tokens == 5 + 3


def test_a_long_text_is_read_at_its_beginning_and_its_end() -> None:
    filler = "so it goes, and on. " * 1000

    assert "code" in read(f"Review this Python.\n{filler}").signs
    assert "code" in read(f"{filler}\nReview this Python.").signs
    assert "code" not in read(f"{filler}\nReview this Python.\n{filler}").signs


@pytest.mark.parametrize(
    ("prompt", "num_tokens", "is_tokens"),
    [
        (TokensPrompt((1, 2, 3)), 3, True),
        (TextPrompt("abcd"), 2, False),
        (TextPrompt("ä"), 1, False),
    ],
)
def test_prompts_that_are_no_conversation_are_measured(
    prompt: TokensPrompt | TextPrompt, num_tokens: int, *, is_tokens: bool
) -> None:
    features = read_features(GenerationRequest(request_id="r", prompt=prompt))

    assert (features.num_prompt_tokens, features.is_tokens) == (num_tokens, is_tokens)
    assert (features.is_chat, features.num_answer_tokens) == (False, 256)


@given(st.text(), st.none() | st.integers(1, 10_000), st.integers(1, 16))
def test_any_text_has_features(text: str, max_tokens: int | None, num_choices: int) -> None:
    features = read(text, max_tokens=max_tokens, num_choices=num_choices)

    assert EASIEST <= features.difficulty <= 1
    assert features.num_tokens >= features.num_prompt_tokens + num_choices


@pytest.mark.parametrize(
    "text", ["- " * 5000, "1 " * 5000, "\n \n" * 5000, "a" * 100_000, "\ud800"]
)
def test_odd_texts_are_read(text: str) -> None:
    assert read(text).difficulty <= 1

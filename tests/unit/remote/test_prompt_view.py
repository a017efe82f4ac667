"""What is seen of prompts whose tokeniser is elsewhere."""

from __future__ import annotations

import pytest

from mm_orch.core.generation import (
    ChatPrompt,
    GenerationRequest,
    Message,
    Prompt,
    TextPrompt,
    TokensPrompt,
)
from mm_orch.core.tools import Tool, ToolUse
from mm_orch.optimization.replicas.held_prefixes import BLOCK_TOKENS
from mm_orch.remote.prompt_view import PromptView, view

RULES = Message(role="system", content="Be short. " * 40)
ASKED = Message(role="user", content="What is a lighthouse? " * 20)
TOLD = Message(role="assistant", content="A tower with a light. " * 20)
MORE = Message(role="user", content="Who lives in it? " * 20)


def seen(prompt: Prompt) -> PromptView:
    return view(GenerationRequest(request_id="r", prompt=prompt))


def chat(*messages: Message, tool_use: ToolUse | None = None) -> PromptView:
    return seen(ChatPrompt(messages, tool_use))


def num_alike(one: PromptView, other: PromptView) -> int:
    pairs = enumerate(zip(one.names, other.names, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one.names), len(other.names)))


def test_the_next_turn_begins_with_all_of_the_last_one_and_opens_alike() -> None:
    first, second = chat(RULES, ASKED), chat(RULES, ASKED, TOLD, MORE)

    assert num_alike(first, second) == len(first.names)
    assert first.opening == second.opening != ""
    assert len(first.names) == first.num_tokens // BLOCK_TOKENS


def test_conversations_with_the_same_rules_are_alike_in_these_and_open_otherwise() -> None:
    one, other = chat(RULES, ASKED), chat(RULES, MORE)

    assert 0 < num_alike(one, other) < len(one.names)
    assert one.opening != other.opening


def test_what_may_be_called_stands_first() -> None:
    use = ToolUse(tools=(Tool(name="look", description="Looks it up. " * 10),))

    with_tools = chat(RULES, ASKED, tool_use=use)
    assert num_alike(chat(RULES, ASKED), with_tools) == 0
    assert num_alike(chat(RULES, MORE, tool_use=use), with_tools) > 0


@pytest.mark.parametrize(
    "prompt",
    [
        TextPrompt("Once upon a time. " * 20),
        TokensPrompt(tuple(range(100))),
        ChatPrompt((RULES,)),
    ],
)
def test_a_prompt_without_a_users_message_has_no_opening(prompt: Prompt) -> None:
    assert seen(prompt).opening == ""


def test_tokens_are_counted_exactly_and_text_by_four_bytes() -> None:
    assert seen(TokensPrompt(tuple(range(100)))).num_tokens == 100
    assert seen(TextPrompt("é" * 101)).num_tokens == 51

"""Which server of a fleet takes a request, and what is learned of their memories."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from mm_orch.core.generation import (
    ChatPrompt,
    GenerationOptions,
    GenerationRequest,
    Message,
    Usage,
)
from mm_orch.optimization.replicas.offers import LIGHT_QUEUE_TOKENS, Rule
from mm_orch.remote.discovery import Address
from mm_orch.remote.endpoint import Endpoint
from mm_orch.remote.placing import Placed, Placing
from mm_orch.remote.prompt_view import PromptView, view
from mm_orch.remote.server import RemoteServer

ANSWER = GenerationOptions(max_tokens=100)
NUM_TOKENS = 400


def endpoint(number: int) -> Endpoint:
    server = RemoteServer(
        "ours",
        Address(f"http://gpu-{number}"),
        name_there=None,
        api_key="",
        stall_s=1.0,
        on_change=lambda: None,
        clock=lambda: 0.0,
    )
    return Endpoint(server, number)


@pytest.fixture
def servers() -> list[Endpoint]:
    return [endpoint(0), endpoint(1)]


def placing(max_tokens: int = 100_000, seed: int = 0) -> Placing:
    return Placing(max_tokens=max_tokens, seed=seed)


def turn(conversation: int, num_turns: int = 1, session: str = "") -> PromptView:
    """A conversation's prompt, to which every turn adds some 400 tokens."""
    text = f"{conversation} ".ljust(4 * NUM_TOKENS - 30, "x")
    messages = tuple(Message(role="user", content=text) for _ in range(num_turns))
    return view(
        GenerationRequest(request_id="r", prompt=ChatPrompt(messages), conversation_id=session)
    )


def told(placed: Placed, share: float) -> Usage:
    """What a server says that held this share of the prompt, in tokens of its own."""
    num_tokens = placed.prompt.num_tokens * 3 // 4
    return Usage(
        num_prompt_tokens=num_tokens,
        num_generated_tokens=1,
        num_cached_tokens=int(share * num_tokens),
    )


def test_the_turns_of_a_conversation_stay_and_others_use_the_other_memory_too(
    servers: list[Endpoint],
) -> None:
    chooser = placing()
    firsts = [chooser.choose(servers, turn(one)).endpoint for one in range(20)]
    laters = [chooser.choose(servers, turn(one, 2)) for one in range(20)]

    assert [one.endpoint for one in laters] == firsts
    assert {one.choice.rule for one in laters} == {Rule.PREFIX}
    assert {one.number for one in firsts} == {0, 1}


def test_what_is_held_is_not_queued_and_an_answer_is_worked_off(servers: list[Endpoint]) -> None:
    chooser, [server, _] = placing(), servers
    first = chooser.choose([server], turn(1))
    with first.queued(ANSWER):
        assert server.queued.total == first.prompt.num_tokens + 100
        first.advance(0, 1)
        first.advance(0, 9)
        assert (server.queued.total, server.num_requests) == (90, 1)
    later = chooser.choose([server], turn(1, 2))
    two = GenerationOptions(num_choices=2)
    with later.queued(two):
        num_new = later.prompt.num_tokens - later.choice.num_held_tokens
        # An answer without a bound is expected to be of 256 tokens.
        assert server.queued.total == 2 * (num_new + 256)
        assert 0 < num_new <= NUM_TOKENS + 32

    assert (server.queued.total, server.num_requests, server.prompts) == (0, 0, set())


@pytest.mark.parametrize("session", ["", "s"])
def test_a_loaded_server_is_passed_over_and_the_conversation_stays_where_it_went(
    servers: list[Endpoint], session: str
) -> None:
    chooser = placing()
    own = chooser.choose(servers, turn(1, session=session)).endpoint
    [other] = [one for one in servers if one is not own]
    busy = PromptView(names=(), num_tokens=3 * LIGHT_QUEUE_TOKENS)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(chooser.choose([own], busy).queued(ANSWER))
        moved = chooser.choose(servers, turn(1, 2, session))
    assert (moved.endpoint, moved.choice.rule) == (other, Rule.LOAD)

    assert chooser.choose(servers, turn(1, 3, session)).endpoint is other


def test_a_server_that_was_lost_holds_nothing(servers: list[Endpoint]) -> None:
    chooser = placing()
    own = chooser.choose(servers, turn(1, session="s")).endpoint
    assert chooser.count_held_tokens(own) > 300

    chooser.forget(own)

    assert chooser.count_held_tokens(own) == 0
    assert chooser.choose([own], turn(1, 2)).choice.num_held_tokens == 0


def test_servers_in_front_agree_on_conversations_that_each_sees_for_the_first_time() -> None:
    # Each has found them in its own order.
    one, other = placing(seed=1), placing(seed=2)
    here, there = [endpoint(n) for n in range(4)], [endpoint(n) for n in (2, 0, 3, 1)]

    def address(placed: Placed) -> str:
        return placed.endpoint.server.address.url

    for number in range(20):
        named = turn(number, session=f"s{number}"), turn(number, 2, session=f"s{number}")
        for first, second in (named, (turn(number), turn(number, 2))):
            assert address(one.choose(here, first)) == address(other.choose(there, second))


def test_without_a_memory_to_go_by_chance_decides(servers: list[Endpoint]) -> None:
    chooser = placing(max_tokens=0)
    placed = [chooser.choose(servers, turn(1, number)) for number in range(1, 30)]

    assert {one.choice.rule for one in placed} == {Rule.LOAD}
    assert {one.endpoint.number for one in placed} == {0, 1}


def learn(chooser: Placing, server: Endpoint, prompt: PromptView, share: float) -> Placed:
    """Let a server answer, and say how much of the prompt it held."""
    placed = chooser.choose([server], prompt)
    with placed.queued(ANSWER):
        chooser.learn(placed, told(placed, share))
    return placed


def count_held(chooser: Placing, server: Endpoint, *conversations: int) -> list[bool]:
    return [
        chooser.choose([server], turn(one, 2)).choice.num_held_tokens > 0 for one in conversations
    ]


def test_a_server_that_says_it_held_nothing_has_lost_what_was_older_too(
    servers: list[Endpoint],
) -> None:
    chooser, [server, _] = placing(), servers
    for one in (1, 2, 3):
        learn(chooser, server, turn(one), 0.0)
    # It says how much it held, and that is what was thought.
    learn(chooser, server, turn(3, 2), 0.5)
    assert chooser.count_held_tokens(server) > 1000

    # It has begun anew in between: 2 and 1 are gone, as far as is known, and 3 not.
    learn(chooser, server, turn(2, 2), 0.0)

    assert count_held(chooser, server, 3, 2, 1) == [True, True, False]


def test_a_server_that_never_tells_is_not_taken_at_its_word(servers: list[Endpoint]) -> None:
    chooser, [server, _] = placing(), servers
    for one in (1, 2, 1, 2):
        learn(chooser, server, turn(one, 2), 0.0)

    assert count_held(chooser, server, 1, 2) == [True, True]


def test_what_another_request_is_still_having_computed_is_not_missed(
    servers: list[Endpoint],
) -> None:
    chooser, [server, _] = placing(), servers
    learn(chooser, server, turn(1), 0.0)
    learn(chooser, server, turn(1, 2), 0.5)
    first = chooser.choose([server], turn(2))
    with first.queued(ANSWER):
        learn(chooser, server, turn(2, 2), 0.0)

    assert count_held(chooser, server, 1, 2) == [True, True]

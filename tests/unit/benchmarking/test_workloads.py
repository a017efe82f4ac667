from __future__ import annotations

import pytest

from mm_orch.benchmarking.vocabulary import WORDS
from mm_orch.benchmarking.workloads import (
    LONG_PROMPT_TOKENS,
    NUM_TURNS,
    Session,
    Turn,
    Workload,
    WorkloadKind,
    body_of,
    make_length_workload,
    make_workload,
    messages_of,
)


def count_words(text: str) -> int:
    return len(text.split())


def count_letters(text: str) -> int:
    """A tokeniser with several tokens a word."""
    return len(text)


def make(kind: WorkloadKind, num_sessions: int = 5, seed: int = 1) -> Workload:
    return make_workload(kind, num_sessions, seed=seed, count_tokens=count_words)


@pytest.mark.parametrize("kind", WorkloadKind)
def test_the_same_seed_asks_the_same_and_another_shares_no_text(kind: WorkloadKind) -> None:
    def texts(seed: int) -> set[str]:
        return {turn.text for session in make(kind, seed=seed).sessions for turn in session.turns}

    assert make(kind) == make(kind)
    assert not texts(1) & texts(2)


@pytest.mark.parametrize("kind", WorkloadKind)
def test_no_two_turns_of_a_workload_say_the_same(kind: WorkloadKind) -> None:
    texts = [turn.text for session in make(kind).sessions for turn in session.turns]

    assert len(set(texts)) == len(texts)
    assert all(set(text.split()) <= set(WORDS) for text in texts)


def test_a_prompt_has_the_wanted_number_of_tokens() -> None:
    [session] = make(WorkloadKind.LONG_PROMPT, 1).sessions

    assert count_words(session.turns[0].text) == LONG_PROMPT_TOKENS


def test_a_prompt_of_long_words_stays_close_to_its_length() -> None:
    workload = make_workload(WorkloadKind.PLAIN, 3, seed=0, count_tokens=count_letters)

    for session in workload.sessions:
        assert 100 <= count_letters(session.turns[0].text) <= 140


def test_conversations_have_ten_turns_and_one_system_prompt_for_all() -> None:
    sessions = make(WorkloadKind.CONVERSATIONS).sessions

    assert {len(session.turns) for session in sessions} == {NUM_TURNS}
    assert len({session.system for session in sessions}) == 1
    assert sessions[0].system


def test_conversations_may_be_shorter() -> None:
    whole = make(WorkloadKind.CONVERSATIONS, 1)
    short = make_workload(
        WorkloadKind.CONVERSATIONS, 1, seed=1, count_tokens=count_words, num_turns=2
    )

    assert short.sessions[0].turns == whole.sessions[0].turns[:2]


def test_chats_of_one_length_share_no_prompt() -> None:
    workload = make_length_workload(70, 9, 3, seed=1, count_tokens=count_words)
    turns = [session.turns[0] for session in workload.sessions]

    assert workload.is_chat
    assert [count_words(turn.text) for turn in turns] == [70, 70, 70]
    assert {turn.num_output_tokens for turn in turns} == {9}
    assert len({turn.text for turn in turns}) == 3


def test_the_shared_prefix_is_the_same_for_all() -> None:
    sessions = make(WorkloadKind.SHARED_PREFIX).sessions

    assert len({session.system for session in sessions}) == 1


def test_mixed_lengths_differ_in_prompt_and_answer() -> None:
    turns = [session.turns[0] for session in make(WorkloadKind.MIXED_LENGTHS, 20).sessions]

    assert len({count_words(turn.text) for turn in turns}) > 2
    assert len({turn.num_output_tokens for turn in turns}) > 2


def test_the_first_sessions_alone_are_the_same_sessions() -> None:
    workload = make(WorkloadKind.SHORT_CHAT)

    assert workload.first(2).sessions == workload.sessions[:2]
    assert workload.first(2).num_requests == 2


def test_a_later_turn_sends_the_history_with_the_servers_answers() -> None:
    session = Session(system="s", turns=(Turn("a", 8), Turn("b", 9)))

    assert messages_of(session, 1, ["x"]) == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": "b"},
    ]


def test_every_request_is_greedy_and_of_fixed_length() -> None:
    session = Session(turns=(Turn("a", 8),))
    plain = Workload(name="p", is_chat=False, sessions=(session,))

    assert body_of(plain, session, 0, answers=[], model="m") == {
        "model": "m",
        "prompt": "a",
        "max_tokens": 8,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert plain.path == "/v1/completions"


def test_a_priority_is_asked_for_with_every_request() -> None:
    session = Session(turns=(Turn("a", 8),))
    urgent = Workload(name="p", is_chat=True, sessions=(session, session), priority=10)

    for workload in (urgent, urgent.first(1)):
        body = body_of(workload, session, 0, answers=[], model="m")
        assert body["priority"] == 10


def test_a_server_that_does_not_know_ignore_eos_is_not_asked_for_it() -> None:
    workload = make(WorkloadKind.SHORT_CHAT, 1)
    body = body_of(workload, workload.sessions[0], 0, answers=[], model="m", has_ignore_eos=False)

    assert "ignore_eos" not in body

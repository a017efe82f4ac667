"""What is asked in a benchmark: sessions of one turn or of several, made from a seed.

Every request is greedy, ignores the end of text and asks for a fixed number of tokens, so that
two servers that answer the same workload have done the same work.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mm_orch.benchmarking.vocabulary import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.benchmarking.vocabulary import CountTokens

DEFAULT_OUTPUT_TOKENS = 64
NUM_TURNS = 10
LONG_PROMPT_TOKENS = 1500
PLAIN_PROMPT_TOKENS = 100

_SHORT_TOKENS = (40, 100)
_MIXED_PROMPT_TOKENS = (16, 32, 64, 128, 256, 512, 1024)
_MIXED_OUTPUT_TOKENS = (16, 32, 64, 128)
_SHARED_PREFIX_TOKENS = 400
_SHARED_QUESTION_TOKENS = 40
_SYSTEM_TOKENS = 200
_TURN_TOKENS = 30


class WorkloadKind(enum.Enum):
    """The sets that there are."""

    SHORT_CHAT = "short_chat"
    LONG_PROMPT = "long_prompt"
    MIXED_LENGTHS = "mixed_lengths"
    SHARED_PREFIX = "shared_prefix"
    CONVERSATIONS = "conversations"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Turn:
    """What the user says next, and how many tokens answer it."""

    text: str
    num_output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One user's turns; each sends the history with the server's own earlier answers."""

    turns: tuple[Turn, ...]
    system: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Sessions to be run.

    Attributes:
        is_chat: ask /v1/chat/completions; else /v1/completions, each session of one turn.
        priority: of every request, where the server knows that field; 0 leaves it out.
    """

    name: str
    is_chat: bool
    sessions: tuple[Session, ...]
    priority: int = 0

    @property
    def num_requests(self) -> int:
        """Turns of all sessions."""
        return sum(len(session.turns) for session in self.sessions)

    @property
    def path(self) -> str:
        """The path that takes the requests."""
        return "/v1/chat/completions" if self.is_chat else "/v1/completions"

    def first(self, num_sessions: int) -> Workload:
        """Return the same workload with its first sessions alone."""
        return replace(self, sessions=self.sessions[:num_sessions])


def make_workload(
    kind: WorkloadKind,
    num_sessions: int,
    *,
    seed: int,
    count_tokens: CountTokens,
    num_output_tokens: int = DEFAULT_OUTPUT_TOKENS,
    num_turns: int = NUM_TURNS,
) -> Workload:
    """Make a workload; the same arguments give the same texts.

    Args:
        kind: which set.
        num_sessions: how many users.
        seed: of every draw; another seed shares no prompt with this one.
        count_tokens: by the tokeniser of the model that is asked.
        num_output_tokens: of each answer; mixed lengths draw their own.
        num_turns: of each conversation.
    """
    dice = random.Random(f"{kind.value} {seed}")  # noqa: S311 - reproducible on purpose

    def text(num_tokens: int) -> str:
        return write_text(dice, num_tokens, count_tokens)

    def one_turn(num_tokens: int, num_output: int = num_output_tokens) -> Session:
        return Session(turns=(Turn(text(num_tokens), num_output),))

    numbers = range(num_sessions)
    match kind:
        case WorkloadKind.SHORT_CHAT:
            sessions = [one_turn(dice.randint(*_SHORT_TOKENS)) for _ in numbers]
        case WorkloadKind.LONG_PROMPT:
            sessions = [one_turn(LONG_PROMPT_TOKENS) for _ in numbers]
        case WorkloadKind.MIXED_LENGTHS:
            sessions = [
                one_turn(dice.choice(_MIXED_PROMPT_TOKENS), dice.choice(_MIXED_OUTPUT_TOKENS))
                for _ in numbers
            ]
        case WorkloadKind.PLAIN:
            sessions = [one_turn(PLAIN_PROMPT_TOKENS) for _ in numbers]
        case WorkloadKind.SHARED_PREFIX:
            system = text(_SHARED_PREFIX_TOKENS)
            question = _SHARED_QUESTION_TOKENS
            sessions = [Session(system=system, turns=one_turn(question).turns) for _ in numbers]
        case WorkloadKind.CONVERSATIONS:
            system = text(_SYSTEM_TOKENS)
            sessions = [
                Session(
                    system=system,
                    turns=tuple(
                        Turn(text(_TURN_TOKENS), num_output_tokens) for _ in range(num_turns)
                    ),
                )
                for _ in numbers
            ]
    is_chat = kind not in {WorkloadKind.PLAIN, WorkloadKind.LONG_PROMPT}
    return Workload(name=kind.value, is_chat=is_chat, sessions=tuple(sessions))


def make_length_workload(
    num_prompt_tokens: int,
    num_output_tokens: int,
    num_sessions: int,
    *,
    seed: int,
    count_tokens: CountTokens,
) -> Workload:
    """Make chats of one length of question and one length of answer; see make_workload."""
    name = f"prompt_{num_prompt_tokens}_output_{num_output_tokens}"
    dice = random.Random(f"{name} {seed}")  # noqa: S311 - reproducible on purpose
    sessions = tuple(
        Session(turns=(Turn(write_text(dice, num_prompt_tokens, count_tokens), num_output_tokens),))
        for _ in range(num_sessions)
    )
    return Workload(name=name, is_chat=True, sessions=sessions)


def messages_of(session: Session, turn: int, answers: Sequence[str]) -> list[dict[str, str]]:
    """Return the conversation up to a turn, with the answers to the turns before it."""
    messages = [{"role": "system", "content": session.system}] if session.system else []
    for number in range(turn + 1):
        messages.append({"role": "user", "content": session.turns[number].text})
        if number < turn:
            messages.append({"role": "assistant", "content": answers[number]})
    return messages


def body_of(
    workload: Workload,
    session: Session,
    turn: int,
    *,
    answers: Sequence[str],
    model: str,
    has_ignore_eos: bool = True,
) -> dict[str, Any]:
    """Return the body of one request.

    Args:
        workload: what is asked.
        session: of the workload.
        turn: of the session.
        answers: to the turns before.
        model: as the server names it.
        has_ignore_eos: ask for the full number of tokens, whatever the model makes of it.
    """
    asked: dict[str, Any] = (
        {"messages": messages_of(session, turn, answers)}
        if workload.is_chat
        else {"prompt": session.turns[turn].text}
    )
    return {
        "model": model,
        **asked,
        "max_tokens": session.turns[turn].num_output_tokens,
        "temperature": 0,
        **({"ignore_eos": True} if has_ignore_eos else {}),
        **({"priority": workload.priority} if workload.priority else {}),
        "stream": True,
        "stream_options": {"include_usage": True},
    }

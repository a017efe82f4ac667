"""What is asked of the simulated system: sessions of turns, and each turn's request."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Refusal(enum.Enum):
    """Why a request got no place."""

    QUEUE_FULL = "queue full"
    TOO_LONG = "longer than a replica's KV memory"


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn adds to its conversation.

    Attributes:
        num_prompt_tokens: new ones; the history before them comes on top.
        num_output_tokens: of the answer.
        think_s: from the answer before until this turn is sent.
    """

    num_prompt_tokens: int
    num_output_tokens: int
    think_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Session:
    """One user's turns, each sent when the one before is answered.

    Attributes:
        arrived_s: when the first turn is sent.
        turns: at least one.
        group: sessions of one group begin with the same tokens; None shares nothing.
        num_group_tokens: how many these are, before the first turn's own.
    """

    arrived_s: float
    turns: tuple[Turn, ...]
    group: int | None = None
    num_group_tokens: int = 0


@dataclass(slots=True, eq=False)
class Request:
    """One turn on its way; times in seconds since the simulation began.

    Attributes:
        session: number of the session, which no other has.
        turn: of the session, from 0.
        num_prompt_tokens: history and shared beginning among them.
        num_delivered: tokens that the client has.
        num_to_compute: of prompt and what was delivered, not computed yet on this replica.
        num_held: tokens that it shares with the replica's prefix cache.
        num_reused: prompt tokens that needed no computing, at its first start.
        ends_at: the replica's decoding step in which its last token comes.
        num_moves: how often it went to another replica because its own died.
        started_s: first step; None while it waits, and so the next two.
        refused_because: why it got no place; None where it got one.
    """

    session: int
    turn: int
    arrived_s: float
    num_prompt_tokens: int
    num_output_tokens: int
    group: int | None = None
    num_group_tokens: int = 0
    num_delivered: int = 0
    num_to_compute: int = 0
    num_held: int = 0
    num_reused: int = 0
    ends_at: int = 0
    num_moves: int = 0
    started_s: float | None = None
    first_token_s: float | None = None
    ended_s: float | None = None
    refused_because: Refusal | None = None

    @property
    def num_known_tokens(self) -> int:
        """Tokens that a replica must know to go on: the prompt, and what was delivered."""
        return self.num_prompt_tokens + self.num_delivered

    @property
    def num_left(self) -> int:
        """Tokens that the client still waits for."""
        return self.num_output_tokens - self.num_delivered
